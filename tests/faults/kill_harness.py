"""Kill runs at random moments, resume them, and compare them bit by bit with runs that nobody disturbed.

Run:     python tests/faults/kill_harness.py [--kills 60] [--minutes M] [--seed 0] [--data DIR] [--only NAME]...

Three recipes on two backbones, in turn, each run killed a few times before it may end; after them, fewer, a search and
a cross-validated run. What is killed when hangs on the seed alone, where exactly also on the machine. DATA has one
folder per class; the first photos of each are taken. It prints a row for each kill, and ends with status 1 unless all
runs came to the same bits as the undisturbed one.
"""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import click
import h5py
import numpy as np
from doomed_main import MOMENTS

PROGRAM = Path(__file__).with_name("doomed_main.py")
PROJECT = PROGRAM.parents[2]
PHOTOS = Path(os.environ.get("TLKIT_TEST_DATA") or PROJECT.parent / "shared" / "data") / "hymenoptera" / "train"
PER_CLASS = 32
KILLS_A_RUN = 5
TIMEOUT = 3600  # seconds after which a process hangs
ANYWHERE = "anywhere"

COMMON = ["data.image_size=32", "data.batch_size=8", "training.checkpoint_seconds=0"]

# What trains and how differs as much as it can; all last seconds.
RECIPES = {
    "kept features": [
        "training.cache=disk",
        "stages=[{unfreeze=0,epochs=3,learning_rate=1e-2},{unfreeze=2,epochs=3,learning_rate=1e-3}]",
    ],
    "all tools": [
        "head.init=random",
        "data.mixup=0.2",
        "training.ema=0.9",
        "training.average_best=2",
        "training.batch_norm=train",
        "loss.label_smoothing=0.1",
        "evaluation.tta=flip",
        "stages=[{unfreeze=1,epochs=3,learning_rate=1e-3,accumulate=2},"
        '{unfreeze=2,epochs=3,learning_rate=1e-3,optimizer="sgd",schedule="plateau",decay_epochs=1}]',
    ],
    "streamed": [
        "training.cache=off",
        "data.augment=medium",
        "training.l2_sp=0.01",
        "training.patience=2",
        "loss.imbalance=balanced_sampling",
        "stages=[{unfreeze=2,epochs=2,learning_rate=1e-3,image_size=48},{unfreeze=0,epochs=3,learning_rate=1e-2}]",
    ],
}
BACKBONES = {
    "efficientnet_lite0": [],
    "resnet20_cifar": ["backbone.weights=none"],
}
FOLDS = ["data.folds=2", "stages=[{unfreeze=0,epochs=3,learning_rate=1e-2}]"]
SEARCH = [
    "head.init=random",
    "backbone.weights=none",
    "stages=[{unfreeze=0,epochs=3,learning_rate=1e-3}]",
    "tune.stages.0.learning_rate={min=1e-4,max=1e-1,log=true}",
]


@dataclass(frozen=True)
class Case:
    """A kind of run: its recipe, its backbone, and the command line that makes it, but for where."""

    recipe: str
    backbone: str
    command: tuple

    @classmethod
    def make(cls, recipe, backbone, settings, command=("finetune",)):
        overrides = [text for setting in (*COMMON, *settings) for text in ("--set", setting)]
        return cls(recipe, backbone, (*command, "--backbone", backbone, *overrides))

    @property
    def name(self):
        return f"{self.recipe}-{self.backbone}".replace(" ", "_")


CASES = [
    Case.make(recipe, backbone, [*settings, *more])
    for recipe, settings in RECIPES.items()
    for backbone, more in BACKBONES.items()
]
MORE_CASES = [
    Case.make("search", "lenet5", SEARCH, ("tune", "--trials", "3", "--seeds", "1", "--no-nested")),
    Case.make("folds", "resnet20_cifar", [*FOLDS, "backbone.weights=none"]),
]


@dataclass
class Kill:
    """A row of the table."""

    case: Case
    moment: str
    after: float
    done: str
    resumed: str = ""
    identical: str = ""


@dataclass
class Attempt:
    """A run that is killed, resumed, killed again, until it is over."""

    case: Case
    path: Path
    kills: list = field(default_factory=list)


class Harness:
    """Makes runs in a folder.

    Args:
        data: Folder of images, one folder per class.
        folder: Where all lies.
        seed: Decides what is killed when.
    """

    def __init__(self, data, folder, seed):
        self.data, self.folder, self._random = data, folder, random.Random(seed)
        self._undisturbed, self._numbers = {}, count()

    def undisturbed(self, case):
        """Return the path of a run of a case that nobody disturbs, and the seconds it took; made when first asked."""
        if case not in self._undisturbed:
            path, started = self.folder / case.name / "whole", time.monotonic()
            process = self._start(case, path)
            errors = process.communicate(timeout=TIMEOUT)[1]
            if process.returncode:
                raise SystemExit(f"{case.name}: the undisturbed run failed:\n{errors}")
            self._undisturbed[case] = path, time.monotonic() - started
        return self._undisturbed[case]

    def attempt(self, case, kills, until):
        """Kill a run up to so many times, resume it to its end, and compare it; return its `Attempt`."""
        whole, seconds = self.undisturbed(case)
        attempt = Attempt(case, self.folder / case.name / f"run{next(self._numbers)}")
        for moment in self._draw(kills):
            if time.monotonic() > until and attempt.kills:
                break
            if not self._is_killed(attempt, moment, seconds):
                break
        status = self._resume(attempt)
        same = status == 0 and differing(attempt.path, whole, self._is_search(case))
        verdict = "yes" if same == [] else f"NO: {', '.join(same)}" if same else "-"
        for kill in attempt.kills:
            kill.resumed = kill.resumed or ("yes" if status == 0 else f"NO: status {status}")
            kill.identical = verdict
        if verdict == "yes":
            shutil.rmtree(attempt.path)
        return attempt

    def _draw(self, kills):
        """Return moments in about the order in which they come in a run: names with numbers, or shares of its time."""
        drawn = self._random.choices([ANYWHERE, *MOMENTS], k=kills)
        places = {name: place for name, (_, _, place) in MOMENTS.items()} | {ANYWHERE: 1}
        drawn.sort(key=places.get)
        return [
            f"{name}/{self._random.random():.3f}"
            if name == ANYWHERE
            else f"{name}/{self._random.randint(1, MOMENTS[name][1])}"
            for name in drawn
        ]

    def _is_killed(self, attempt, moment, seconds):
        """Go on with a run until a moment comes; return whether it did."""
        resumed = attempt.path.exists()
        name, number = moment.split("/")
        started = time.monotonic()
        process = self._start(attempt.case, attempt.path, None if name == ANYWHERE else moment)
        if name == ANYWHERE:
            try:
                errors = process.communicate(timeout=float(number) * seconds)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                errors = process.communicate()[1]
        else:
            errors = process.communicate(timeout=TIMEOUT)[1]
        self._heed(attempt, resumed, process.returncode, errors)
        if process.returncode != -signal.SIGKILL:
            return False
        attempt.kills.append(Kill(attempt.case, moment, time.monotonic() - started, how_far(attempt.path)))
        return True

    def _resume(self, attempt):
        """Go on with a run to its end; return the exit status."""
        process = self._start(attempt.case, attempt.path)
        errors = process.communicate(timeout=TIMEOUT)[1]
        self._heed(attempt, True, process.returncode, errors)
        return process.returncode

    def _heed(self, attempt, resumed, status, errors):
        """Take down how the kill before this process was overcome."""
        if resumed and attempt.kills:
            notes = [line for line in errors.splitlines() if "the one before it is used" in line]
            fine = status in (0, -signal.SIGKILL)
            attempt.kills[-1].resumed = ("yes, older one" if notes else "yes") if fine else f"NO: status {status}"
        if status not in (0, -signal.SIGKILL):
            click.echo(f"{attempt.path}: status {status}\n{errors}")

    def _start(self, case, path, kill_at=None):
        """Start or go on with a run, in a process whose features lie beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        where = ["--data", str(self.data), "--out", str(path)]
        if (path / "recipe.toml").exists():
            where = [*(where[2:] if self._is_search(case) else where), "--resume"]
        command = case.command[:1] if self._is_search(case) and "--resume" in where else case.command
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
            "TLKIT_CACHE": str(path.parent / f"cache-{path.name}"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        if kill_at:
            environment["KILL_AT"] = kill_at
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *command, *where],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def _is_search(case):
        return case.command[0] == "tune"


def how_far(path):
    """Say what a run had done when it was killed: what its history says, and whether it was over."""
    if (path / "metrics.json").exists():
        return "metrics written"
    try:
        with (path / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return "no epoch" if path.exists() else "no folder"
    return f"stage {rows[-1]['stage']} epoch {int(rows[-1]['epoch']) + 1}" if rows else "no epoch"


def differing(one, other, search=False):
    """Return the names of what differs between two folders of runs, or of searches."""
    names = ["recipe.toml", "splits.csv", "history.csv", "selection.json", "metrics.json", "inputs.json"]
    names += [path.name for path in sorted(other.glob("predictions_*.csv"))]
    folders = [""]
    if search:
        folders = [path.parent.relative_to(other) for path in sorted(other.glob("*/*/metrics.json"))]
    found = [
        f"{folder}/{name}".strip("/")
        for folder in folders
        for name in names
        if (other / folder / name).exists() and not same_bytes(one / folder / name, other / folder / name)
    ]
    if search and search_of(one) != search_of(other):
        found.append("tuning.json")
    if not same_weights(one / "model.keras", other / "model.keras"):
        found.append("model.keras")
    leftovers = [path.name for path in one.rglob("*") if ".tmp" in path.name or path.name in ("checkpoint", ".lock")]
    return found + leftovers


def same_bytes(one, other):
    return one.exists() and one.read_bytes() == other.read_bytes()


def search_of(path):
    """Return what `tuning.json` says, but for how long anything took."""
    result = json.loads((path / "tuning.json").read_text())
    return [trial | {"seconds": 0} for trial in result["trials"]], result["own_score"], result["best"]


def same_weights(one, other):
    """Tell whether two Keras files hold the same arrays."""
    mine, theirs = weights_in(one), weights_in(other)
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)


def weights_in(path):
    arrays = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def take_photos(source, folder, per_class=PER_CLASS):
    """Copy the first photos of each class; return the folder."""
    for of_class in sorted(path for path in source.iterdir() if path.is_dir()):
        (folder / of_class.name).mkdir(parents=True)
        for photo in sorted(of_class.iterdir())[:per_class]:
            shutil.copy(photo, folder / of_class.name)
    return folder


def work(harness, cases, kills, until, on_attempt, kills_a_run=KILLS_A_RUN):
    """Make attempts on some cases in turn until there were so many kills, or time is up; return the `Kill`s."""
    done = []
    for turn in count():
        if len(done) >= kills or time.monotonic() > until:
            return done
        attempt = harness.attempt(cases[turn % len(cases)], min(kills_a_run, kills - len(done)), until)
        done += attempt.kills
        on_attempt(attempt)
    return done


def show(attempt):
    for kill in attempt.kills:
        cells = (kill.moment, kill.case.recipe, kill.case.backbone, f"{kill.after:.1f} s, {kill.done}")
        click.echo(f"| {' | '.join(cells)} | {kill.resumed} | {kill.identical} |")


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="One folder per class.")
@click.option("--kills", default=60, help="Over the three recipes and two backbones.")
@click.option("--more-kills", default=10, help="Over a search and a cross-validated run.")
@click.option("--minutes", default=1e9, help="After which no run is begun.")
@click.option("--seed", default=0)
@click.option("--only", multiple=True, help="Name of a recipe; again for another.")
def main(data, kills, more_kills, minutes, seed, only):
    """Kill, resume, compare."""
    data = data or PHOTOS
    until = time.monotonic() + 60 * minutes
    click.echo("| moment/number | recipe | backbone | killed after | resumed | identical |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tlkit-kills-") as folder:
        harness = Harness(take_photos(data, Path(folder) / "photos"), Path(folder), seed)
        done = []
        for cases, wanted in ((CASES, kills), (MORE_CASES, more_kills)):
            cases = [case for case in cases if not only or case.recipe in only]
            if cases:
                done += work(harness, cases, wanted, until, show)
    same = sum(kill.identical == "yes" for kill in done)
    click.echo(f"{len(done)} kills; {same} in runs that were resumed to the same bits, {len(done) - same} lost")
    sys.exit(same < len(done))


if __name__ == "__main__":
    main()
