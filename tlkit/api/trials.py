"""Trials of a search: each a run folder, trained on the training images and judged on the validation images."""

import contextlib
import math
import shutil
import time
import traceback
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from tlkit import run as run_folder
from tlkit.api import _make_job
from tlkit.api.calibrating import make_chain, predict_split
from tlkit.api.deployable import write_model
from tlkit.api.resuming import VERSIONS
from tlkit.data.index import fold_splits, subset, with_split
from tlkit.data.tta import find_views
from tlkit.errors import LostImageError, WriteError
from tlkit.progress import EngineOnly, Listener
from tlkit.recipe import check_recipe, set_keys
from tlkit.search.trials import DONE, FAILED, PRUNED, Answer, is_hopeless

TRIALS, OWN, ERROR = "trials", "own", "error.txt"
FOLDS = 5  # of the nested cross-validation
PATIENCE = 10.0  # seconds that a worker of a search that was killed may take to end


def with_settings(recipe, settings, epochs=None):
    """Return a recipe with some keys set; `epochs` are those of the last stage."""
    values = recipe.model_dump()
    set_keys(values, settings)
    if epochs is not None:
        values["stages"][-1]["epochs"] = epochs
    return check_recipe(values, where="tune")


def try_settings(job, base, settings):
    """Raise `RecipeError` if some settings of the recipe `base` can't make a trial; nothing is built."""
    from tlkit.data.augment import training_view

    recipe = replace(job, recipe=with_settings(base, settings), listener=Listener()).resolve().recipe
    training_view(recipe.data.augment, image_size=32, fit=recipe.data.fit)


class Division(NamedTuple):
    """How a search divides the images that aren't for testing.

    Attributes:
        fold: Which of `FOLDS` is held out, for a search of the nested cross-validation; None for the search itself.
        shared: Whether all folds are searched, so that each image's features are kept for whatever it will be.
    """

    fold: int | None = None
    shared: bool = False

    def of(self, data, seed):
        """Return the `Data` of the search: without its test images; what a fold holds out is "test" in it."""
        inner = subset(data, np.flatnonzero(data.split != "test"))
        return inner if self.fold is None else with_split(inner, fold_splits(inner, FOLDS, seed)[self.fold])


def start_bench(base, source, cache_size, path, division, listener):
    """Return what makes trials in a worker: `Bench.make`."""
    return Bench(with_memory(_make_job(base, source, EngineOnly(listener), cache_size)), base, path, division).make


def with_memory(job):
    """Return a job whose trials share what they keep in memory."""
    from tlkit.training.cache import memory_room
    from tlkit.training.store import MemoryStore

    return replace(job, memory=MemoryStore(memory_room()))


class _OneBackbone:
    """Builds backbones like `build_backbone`, the last one anew only if another is wanted.

    Building one takes a second, as long as training a head. It comes with the weights that it was built with, whatever
    was trained since; models that were made of it before are void then.
    """

    def __init__(self):
        self._kind, self._model, self._values = None, None, []

    def __call__(self, name, *, weights, image_size):
        from tlkit.models.backbones import build_backbone
        from tlkit.training.variables import assign, values_of

        kind = (name, weights, image_size)
        if kind != self._kind or weights == "none":  # random ones differ from trial to trial
            self._model = build_backbone(name, weights=weights, image_size=image_size)
            self._kind, self._values = kind, values_of(self._model.variables)
        assign(self._model.variables, self._values)
        return self._model


class Bench:
    """Makes trials, one after the other, in one process; what they keep in memory they share, and the backbone.

    Args:
        job: The `Job` of the search's recipe, as from `with_memory`.
        base: The `Recipe` whose keys the trials set.
        path: The search's folder.
        division: `Division`.
    """

    def __init__(self, job, base, path, division):
        self._base, self._path = base, path
        data = division.of(job.data, base.seed)
        pool = np.arange(len(data)) if division.shared else None
        self._job = replace(
            job,
            data=data,
            pool=pool,
            make_model=partial(job.make_model, build=_OneBackbone()),
            resume_path=path,
            command="tune",
            listener=Listener(),
            allowed=frozenset({VERSIONS}),  # the search heeds them; workers may have another number of threads
            patience=PATIENCE,
        )
        self._by_loss = base.training.monitor == "loss"
        self._ships = division.fold is None  # a fold's models serve its figures only

    def make(self, proposal, known):
        """Make a trial, or what is left of it.

        Args:
            proposal: Its `Proposal`.
            known: Curves of earlier trials, as from `Trials.known`.

        Returns:
            Its `Answer`.
        """
        started, path = time.monotonic(), self._trial_path(proposal.number)
        curve = _Curve(known, self._score)
        try:
            recipe = with_settings(self._base, proposal.settings, proposal.epochs)
            curve.epochs = sum(stage.trained_epochs for stage in recipe.stages)
            with contextlib.closing(self._open(recipe, proposal.number, path, curve)) as job:
                score, status, reason = self._score(job.run_trial()), DONE, ""
                if self._ships and score > max((other[-1] for other in known if other), default=-math.inf):
                    write_model(job)
        except _Hopeless:
            score, status, reason = curve.best[-1], PRUNED, f"below the median after epoch {len(curve.best)}"
        except (LostImageError, WriteError):  # which would end every other trial, too
            raise
        except Exception as error:  # whatever a trial's settings bring about ends that trial, not the search
            score, status, reason = None, FAILED, f"{type(error).__name__}: {error}"
            path.mkdir(parents=True, exist_ok=True)
            run_folder.write_text(path / ERROR, traceback.format_exc())
        return Answer(status, score, curve.best, round(time.monotonic() - started, 3), reason)

    def make_own(self, recipe):
        """Make a trial of the recipe's own settings; return its score."""
        path = self._path / TRIALS / OWN
        lacks_model = self._ships and not (self._path / run_folder.MODEL).is_file()
        if lacks_model or not (path / run_folder.METRICS).is_file():
            with contextlib.closing(self._open(recipe.model_copy(deep=True), 0, path, Listener())) as job:
                job.run_trial()
                if lacks_model:
                    write_model(job)
        self._take_model(path)
        self._clear(path)
        return self._score(run_folder.read_json(path / run_folder.METRICS)["val"])

    def finish(self, number, is_best):
        """Remove what only a trial that is not over needs; of the best so far, the search's folder gets the model."""
        path = self._trial_path(number)
        if is_best:
            self._take_model(path)
        for name in (run_folder.MODEL, run_folder.INPUTS):
            (path / name).unlink(missing_ok=True)
        self._clear(path)

    def predictions(self, recipe, number, name):
        """Make a trial once more, and predict the images that chose it and those that the fold holds out.

        Args:
            recipe: `Recipe`; its seed is that of trial `number`.
            number: From 0.
            name: Of its folder.

        Returns:
            Dict of `"val"` and `"test"` to dict of task to float32 `(images, outputs)`.
        """
        path = self._path / name
        with contextlib.closing(self._open(recipe.model_copy(deep=True), number, path, Listener())) as job:
            job.run_trial()
            chain, sets = make_chain(job, None), {"none": find_views("none")}
            found = {split: predict_split(job, chain, split, sets)["none"] for split in ("val", "test")}
        self._clear(path)
        return found

    @property
    def data(self):
        """The `Data` that it works on."""
        return self._job.data

    def _take_model(self, path):
        for name in (run_folder.INPUTS, run_folder.MODEL):
            if (path / name).is_file():
                (path / name).replace(self._path / name)

    def _trial_path(self, number):
        return self._path / TRIALS / f"{number:03}"

    @staticmethod
    def _clear(path):
        shutil.rmtree(path / run_folder.CHECKPOINT, ignore_errors=True)

    def _open(self, recipe, number, path, listener):
        """Return the opened `Job` of a trial: seeded by its number, with the views and the split of all."""
        seed = self._base.seed
        recipe.seed = (seed + number) % 2**32
        recipe.data.split_seed = recipe.data.view_seed = seed
        return replace(self._job, recipe=recipe, listener=listener).resolve().open(path, resume=True)

    def _score(self, row):
        return -row["val_loss"] if self._by_loss else row["val_accuracy"]


class _Hopeless(Exception):  # noqa: N818 - no error: the trial is given up
    """The trial will not be among the better ones."""


class _Curve(Listener):
    """Hears a trial's epochs, and ends it where it is hopeless.

    Attributes:
        best: Its best score up to each epoch, the probe's included.
        epochs: How many there will be.
    """

    def __init__(self, known, score):
        self._known, self._score = known, score
        self.best, self.epochs, self._probe = [], 0, []

    def probe_fitted(self, row):
        self._probe = [self._score(row)]

    def training_resumed(self, probe, history):
        if probe:
            self.probe_fitted(probe)
        for row in history:
            self._add(row)

    def epoch_done(self, row, is_best):
        self._add(row)
        if is_hopeless(self._known, self.best, self.epochs):
            raise _Hopeless

    def _add(self, row):
        self.best.append(max([self._score(row), *(self.best[-1:] or self._probe)]))
