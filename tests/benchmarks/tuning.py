"""A search above the frozen layers beside one fine-tuning without a store, and beside the same search in plain Keras.

Run:     python tests/benchmarks/tuning.py DATA_DIR [--trials 30] [--rival-trials 30]

Three processes one after the other, each with an empty feature store: `tlkit tune --seeds 0 --no-nested`, which makes
the trials and compares nothing at its end; `tlkit finetune --cache off`; `keras_tuner_search.py`, on the same split.
With fewer trials of the rival than of ours its time is scaled.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tlkit.api import load_data

RIVAL = Path(__file__).with_name("keras_tuner_search.py")


def timed(words):
    """Run a command with a feature store of its own; return what it prints, and its seconds."""
    with tempfile.TemporaryDirectory() as cache:
        started = time.monotonic()
        environment = os.environ | {"TLKIT_CACHE": cache}
        done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True, env=environment)
        return done.stdout, time.monotonic() - started


def lay_out(source, folder):
    """Link the images of a split as tlkit makes it into `folder/<split>/<class>/`; return the folder."""
    data = load_data(source)
    for path, split, label in zip(data.paths, data.split, data.labels["label"], strict=True):
        link = folder / split / data.tasks["label"].classes[label] / path.replace("/", "__")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((data.root / path).resolve())
    return str(folder)


@click.command()
@click.argument("data_dir")
@click.option("--trials", default=30)
@click.option("--rival-trials", default=30)
def main(data_dir, trials, rival_trials):
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "search"
        words = ["tune", "--data", data_dir, "--trials", str(trials), "--seeds", "0", "--no-nested", "--out", str(out)]
        _, search = timed(["-m", "tlkit", *words])
        found = json.loads((out / "tuning.json").read_text())
        statuses = [trial["status"] for trial in found["trials"]]
        single = ["finetune", "--data", data_dir, "--cache", "off", "--out", str(Path(folder) / "single")]
        _, single = timed(["-m", "tlkit", *single])
        if rival_trials:
            images = lay_out(data_dir, Path(folder) / "images")
            text, rival = timed([str(RIVAL), images, "--trials", str(rival_trials)])
    best = max(trial["score"] for trial in found["trials"] if trial["score"] is not None)
    print(f"tune, {len(statuses)} trials ({statuses.count('pruned')} pruned): {search:.1f} s, best score {best:.4f}")
    print(f"finetune --cache off: {single:.1f} s; tune / finetune {search / single:.2f}")
    if rival_trials:
        scaled = rival * len(statuses) / rival_trials
        print(f"keras-tuner, {rival_trials} trials: {rival:.1f} s, best score {-json.loads(text)['best_val_loss']:.4f}")
        print(f"keras-tuner, scaled to {len(statuses)}: {scaled:.1f} s; keras-tuner / tune {scaled / search:.1f}")


if __name__ == "__main__":
    main()
