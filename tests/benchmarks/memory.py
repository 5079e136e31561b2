"""What a run of many images takes in memory beside one of few: RssAnon, the memory that no file backs.

Run:     python tests/benchmarks/memory.py [--few 1000] [--many 50000] [--views 1] [--cache disk]

Each run is a process of its own: synthetic photos of 224 x 224 pixels are written, a small net of 224-pixel input is
trained with its features kept, first those of the head's cut, then with one block unfrozen at a cut as wide as that of
two blocks of EfficientNet-Lite0 (14 x 14 x 112 float32, 88 KB a view), and evaluated.
The peak is of samples of /proc/self/status every 50 ms, from the reading of the data to the end of the evaluation.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

SIDE = 224
SAMPLE_SECONDS = 0.05
STAGES = [
    {"unfreeze": 0, "epochs": 2, "learning_rate": 1e-2},
    {"unfreeze": 1, "epochs": 1, "learning_rate": 1e-3},
]


def write_photos(folder, count):
    """Write `count` JPEGs of two classes, each of its own colours, to `folder/CLASS/NUMBER.jpg`."""
    import cv2
    import numpy as np

    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
    for number in range(count):
        random = np.random.default_rng(number)
        small = random.integers(0, 256, (8, 8, 3), np.uint8)
        photo = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "ab"[number % 2] / f"{number:06}.jpg"), photo)


def make_model(tasks):
    """Return a small net of three blocks and a head, that says where it can be cut, and the names of the cuts."""
    import keras
    from keras import layers

    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    ends = []
    for number, (filters, stride) in enumerate(((16, 4), (112, 4), (64, 2))):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", activation="relu", name=f"block{number}")(x)
        ends.append(f"block{number}")
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    ((name, task),) = tasks.items()
    logits = layers.Dense(task.num_outputs)(x)
    return keras.Model(image, layers.Activation("softmax", name=name)(logits)), ends


class Peak:
    """The highest RssAnon of this process, in bytes, sampled by a thread of its own."""

    def __enter__(self):
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, anonymous_memory())


def anonymous_memory():
    """Return RssAnon of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def train(source, out, views, cache):
    """Do one run and print its figures as JSON."""
    import tlkit
    from tlkit.recipe import read_recipe

    recipe = read_recipe("default", [f"data.views={views}"])
    started = time.monotonic()
    with Peak() as peak:
        data = tlkit.load_data(source)
        model, ends = make_model(data.tasks)
        tlkit.finetune(model, data, stages=STAGES, recipe=recipe, cache=cache, block_ends=ends, out=out)
    print(json.dumps({"images": len(data), "peak_bytes": peak.bytes, "seconds": time.monotonic() - started}))


@click.command()
@click.option("--few", default=1000)
@click.option("--many", default=50_000)
@click.option("--views", default=1, help="Training views of each image.")
@click.option("--cache", type=click.Choice(["disk", "off"]), default="disk")
@click.option("--child", nargs=2, hidden=True)
def main(few, many, views, cache, child):
    """Print one row for each number of images, and the difference."""
    if child:
        train(*child, views, cache)
        return
    print("| images | views | cache | peak RssAnon, MiB | seconds |\n|---|---|---|---|---|")
    peaks = []
    for count in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            photos, out = Path(folder) / "photos", Path(folder) / "run"
            write_photos(photos, count)
            command = [sys.executable, __file__, "--child", str(photos), str(out)]
            command += ["--views", str(views), "--cache", cache]
            environment = os.environ | {"TLKIT_CACHE": str(Path(folder) / "cache")}
            run = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
            found = json.loads(run.stdout.splitlines()[-1])
        peaks.append(found["peak_bytes"] / 2**20)
        print(f"| {found['images']:,} | {views} | {cache} | {peaks[-1]:,.0f} | {found['seconds']:.0f} |", flush=True)
    print(f"\n{peaks[1] - peaks[0]:,.0f} MiB more; asked: at most 1,024")


if __name__ == "__main__":
    main()
