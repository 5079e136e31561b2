"""Time `tlkit report` on made runs of many test images, and weigh the page.

The runs are made without training: drawn predictions, small pictures, EfficientNet-Lite0 with random weights for the
Grad-CAM maps. What is timed is the command as a user starts it, TensorFlow's start included; the seconds of processors
that it took say what it would need on an idle machine.

    PYTHONPATH=.:tests/helpers python tests/benchmarks/report_time.py --images 10000 --out DIR
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from made_runs import edit, make_run

from tlkit.catalog import BACKBONES
from tlkit.tasks import Task

BACKBONE, SIZE = "efficientnet_lite0", 224
CLASSES = (10, 1000)


def main():
    """Print a table: what was made, the seconds of the command, the megabytes of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True, help="A new folder for the runs.")
    settings = parser.parse_args()
    print("| test images | classes | findings | report, s | of processors, s | page, MB |\n|---|---|---|---|---|---|")
    for count in CLASSES:
        run = prepare(settings.out / str(count), settings.images, count)
        started, used = time.monotonic(), processor_seconds()
        subprocess.run([sys.executable, "-m", "tlkit", "report", str(run)], check=True, stdout=subprocess.DEVNULL)
        seconds, used = time.monotonic() - started, processor_seconds() - used
        size = (run / "report.html").stat().st_size
        print(f"| {settings.images:,} | {count:,} | 400 | {seconds:.1f} | {used:.1f} | {size / 1e6:.2f} |", flush=True)


def processor_seconds():
    """Return the seconds of processors that the commands so far have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepare(path, images, count):
    """Make a run folder with its model and its pictures, and return it."""
    import tlkit

    task = Task("single_label", tuple(f"class {k}" for k in range(count)))
    names = [f"{k:05}.png" for k in range(400)]
    findings = [
        {"path": one, "other": other, "kind": kind, "problem": "nearly the same", "score": 0.98, "left_out": False}
        for kind, part in (("near_duplicate", names[:200]), ("label_error", names[200:]))
        for one, other in zip(part, part[1:] + part[:1], strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    run = make_run(path / "run", {"label": task}, count=images, quality=0.8, findings=findings)
    edit(run, "inputs.json", lambda v: v.update(image_size=SIZE, block_ends=list(BACKBONES[BACKBONE].block_ends)))
    tlkit.build_model(BACKBONE, {"label": task}, weights="none", image_size=SIZE, init="random").save(
        run / "model.keras"
    )
    return run


if __name__ == "__main__":
    main()
