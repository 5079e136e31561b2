"""A run as a predictor: the same answer from the command line, from Python, and on any batch."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from tlkit import run as run_folder
from tlkit.data.arrays import as_rgb
from tlkit.data.checks import check_files
from tlkit.data.decode import decode
from tlkit.data.files import read_file
from tlkit.data.tta import find_views, views_risk
from tlkit.data.walk import images_below
from tlkit.errors import DataError, RunError, TlkitError
from tlkit.evaluation.conformal import prediction_sets
from tlkit.evaluation.infer import predict_sets
from tlkit.evaluation.metrics import THRESHOLD, Result
from tlkit.evaluation.predictions import inputs_in, metrics_in, tasks_in
from tlkit.evaluation.tta import check_average
from tlkit.progress import Listener


@dataclass(frozen=True)
class Answer:
    """What the model says of one image for a single-label task.

    Attributes:
        label: The most probable class.
        probability: Its probability.
        probabilities: Every class's probability, the most probable first.
        conformal_set: The classes among which the true one is with the probability that the run was asked for, the most
            probable first; None for a run without conformal sets, and where test-time views are averaged.
    """

    kind: ClassVar[str] = "single_label"
    label: str
    probability: float
    probabilities: dict[str, float]
    conformal_set: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LabelsAnswer:
    """What the model says of one image for a task of several labels.

    Attributes:
        labels: Those with a probability of at least 0.5, the most probable first.
        probabilities: Every label's probability, the most probable first.
    """

    kind: ClassVar[str] = "multilabel"
    labels: tuple[str, ...]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class NumberAnswer:
    """What the model says of one image for a task of numbers.

    Attributes:
        value: The number, in the unit of the labels that it was trained on.
    """

    kind: ClassVar[str] = "regression"
    value: float


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: The image's path as given, or `"image 0"` for the first array.
        answers: Dict of task name to `Answer`, `LabelsAnswer` or `NumberAnswer`, by the task's kind.
    """

    path: str
    answers: dict[str, Answer | LabelsAnswer | NumberAnswer]

    @property
    def label(self):
        """The most probable class of the first task.

        Raises:
            TlkitError: If that is no single-label task.
        """
        return self._first.label

    @property
    def probability(self):
        """The probability of `label`."""
        return self._first.probability

    @property
    def _first(self):
        name, answer = next(iter(self.answers.items()))
        if answer.kind != "single_label":
            what = "labels" if answer.kind == "multilabel" else "value"
            raise TlkitError(f"the first task, {name!r}, has no single label: use `.answers[{name!r}].{what}`")
        return answer


class Run:
    """A completed run: its model, its metrics, and what they need to be used.

    Args:
        path: The run folder.
        unfinished: Whether it may be that of a run that isn't over, which predicts with its best model so far.

    Attributes:
        path: The run folder, as `pathlib.Path`.
        complete: Whether the run is over.
        inputs, metrics: What `inputs.json` and `metrics.json` hold; no metrics before the run is over.
        tasks: Dict of task name to `Task`.
        conformal: Dict of single-label task to `alpha` and `threshold` of its conformal sets; empty without any.
        data: The `Data` that it was trained on, in the process that trained it; else None.

    Raises:
        RunError: If it isn't the folder of such a run.
    """

    def __init__(self, path, unfinished=False):
        find = run_folder.find_run_that_predicts if unfinished else run_folder.find_complete_run
        self.path = find(path)
        self.complete = run_folder.is_complete(self.path)
        self.data = None
        self.inputs = inputs_in(self.path)
        self.tasks = tasks_in(self.inputs, self.path)
        self.metrics = metrics_in(self.path, self.tasks) if self.complete else {}
        self.conformal = {name: of["conformal"] for name, of in self.inputs["tasks"].items() if of.get("conformal")}
        with run_folder.reading(self.path):
            for sets in self.conformal.values():
                float(sets["threshold"])

    def __repr__(self):
        return f"Run({str(self.path)!r})"

    @property
    def headline(self):
        """The split whose figures are the headline, such as `"test"`, and its entry in `metrics`."""
        split = self.metrics["primary"].partition(".")[0]
        return split, self.metrics[split]

    @property
    def value(self):
        """The first task's headline figure: accuracy, mean average precision, or mean absolute error."""
        return Result(*self.headline).value

    @property
    def interval(self):
        """Its 95 % interval, `[low, high]`."""
        return Result(*self.headline).interval

    @property
    def accuracy(self):
        """The headline accuracy; a `TlkitError` if the first task is no single-label task."""
        return Result(*self.headline).accuracy

    @property
    def accuracy_interval(self):
        """The headline accuracy's 95 % interval, `[low, high]`."""
        return Result(*self.headline).accuracy_interval

    @cached_property
    def model(self):
        """The run's `keras.Model`: float32 RGB in [0, 255] to probabilities."""
        from tlkit.models.reader import read_model

        path, side = self.path / run_folder.MODEL, self.inputs["image_size"]
        model = read_model(path)
        if getattr(model, "input_shape", None) != (None, side, side, 3):  # of any size: no limit would hold it
            raise RunError(f"{path}: expected a model of images of {side} pixels, as tlkit writes it.")
        return model

    def probabilities(self, data, indices, *, tta="none", average="probabilities", listener=None, what="images"):
        """Predict images of an indexed data set.

        Args:
            data: `tlkit.data.index.Data`, or anything with its `read` and `labels`.
            indices: int array: which of its images.
            tta: Test-time views, as for `tlkit.data.tta.find_views`.
            average: How what they predict is averaged, as for `tlkit.evaluation.tta.average`.
            listener: `Listener` for progress; `what` is what it is told that these images are.

        Returns:
            Dict of task name to float32 `(images, classes)`, or `(images, 1)` numbers for regression.
        """
        sets = {tta: find_views(tta)}
        return self.predict_sets(data, indices, sets, average=average, listener=listener, what=what)[tta]

    def predict_sets(self, data, indices, sets, *, average="probabilities", listener=None, what="images"):
        """Predict images of an indexed data set with several sets of test-time views, each image read once.

        Args:
            data, indices, average, listener, what: As for `probabilities`.
            sets: Dict of name to tuple of `tlkit.data.tta.Rendering`.

        Returns:
            Dict of name to what `probabilities` returns for that set.
        """
        listener = listener or Listener()
        check_average(average)
        listener.engine_needed()
        from tlkit.data.pipeline import Views

        views = Views(data, image_size=self.inputs["image_size"], fit=self.inputs["fit"])
        keeping = {"kept": self._kept(data, views, indices), "listener": listener, "what": what}
        return predict_sets(self.chain, views, indices, self.tasks, sets, average=average, **keeping)

    @cached_property
    def chain(self):
        """The run's model as a `tlkit.models.chain.Chain`, block by block."""
        from tlkit.models.chain import Chain

        return Chain(self.model, self.inputs["block_ends"], self.tasks, self.inputs["batch_size"])

    def _kept(self, data, views, indices):
        """Return the features that some run has kept of these images, if they can be told by their contents."""
        from tlkit.training.features import KeptFeatures
        from tlkit.training.repeatable import describe_engine
        from tlkit.training.store import DiskStore

        if not hasattr(data, "sha256"):
            return None
        return KeptFeatures(DiskStore(), self.chain, views.evaluation(), data, indices, describe_engine())

    def predict(self, images, *, tta="none", average="probabilities", listener=None):
        """Predict images that nobody has labelled.

        Args:
            images: A path, or a list of paths (image files, or folders, which are searched), or a uint8 array
                `(images, height, width, channels)`, or a list of uint8 arrays `(height, width, channels)`,
                channels 1 (gray) or 3 (RGB).
            tta: Test-time views: `"none"`, `"flip"`, `"fivecrop"`, `"tencrop"`, `"multiscale"`, `"rotations"`,
                `"dihedral"`, a TOML file of them, or `"auto"`: those that helped on the run's validation images.
            average: How what they predict is averaged: `"probabilities"`, `"logits"` or `"geometric"`.
            listener: `Listener` for progress and for notes on files that were left out.

        Returns:
            List of `Prediction`, in order.

        Raises:
            DataError: If a path doesn't exist, a named file is no readable image, or there is nothing to predict.
        """
        listener = listener or Listener()
        check_average(average)
        tta = self._views_that_help(listener) if tta == "auto" else tta
        for risk in dict.fromkeys(views_risk(tta, task) for task in self.tasks.values()):
            if risk:
                listener.note(risk)
        source = _Unlabelled(images, listener)
        indices = np.arange(len(source.paths))
        by_task = self.probabilities(source, indices, tta=tta, average=average, listener=listener)
        with_sets = tta == "none"  # their threshold is one of the probabilities of the evaluation view alone
        return [
            Prediction(path, {name: self._answer(name, values[number], with_sets) for name, values in by_task.items()})
            for number, path in enumerate(source.paths)
        ]

    def _answer(self, name, outputs, with_sets):
        """Return what a task's outputs for one image, float `(num_outputs,)`, say."""
        answer = _answer(outputs, self.tasks[name])
        if not with_sets or name not in self.conformal:
            return answer
        members = prediction_sets(outputs[None], self.conformal[name]["threshold"])[0]
        included = {label for label, member in zip(self.tasks[name].classes, members, strict=True) if member}
        return replace(answer, conformal_set=tuple(label for label in answer.probabilities if label in included))

    def _views_that_help(self, listener):
        """Return the name of the test-time views that the run's end kept, and say which."""
        if "tta" not in self.metrics:
            raise RunError(
                f"{self.path}: the run has not measured whether test-time views help. Name some, such as flip; "
                f"`tlkit evaluate {self.path} --tta auto` says which help."
            )
        chosen = self.metrics["tta"]["chosen"]
        listener.note(f"auto: {chosen}, as validation said at the end of the run")
        return chosen


def _answer(outputs, task):
    """Return what a task's outputs for one image, float `(num_outputs,)`, say."""
    if task.kind == "regression":
        return NumberAnswer(float(outputs[0]))
    order = np.argsort(-outputs, kind="stable")
    ranked = {task.classes[position]: float(outputs[position]) for position in order}
    if task.kind == "multilabel":
        return LabelsAnswer(tuple(label for label, p in ranked.items() if p >= THRESHOLD), ranked)
    label = next(iter(ranked))
    return Answer(label, ranked[label], ranked)


class _Unlabelled:
    """Images to predict, read one at a time: the part of `Data` that prediction needs."""

    labels: dict = {}  # noqa: RUF012  the pipeline looks for labels, and there are none

    def __init__(self, images, listener):
        self._arrays = None
        if isinstance(images, str | Path):
            images = [images]
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise DataError(
                f"images: expected an array (images, height, width, channels). Received: {images.shape}. "
                "Put a single image into a list."
            )
        if len(images) and not isinstance(images[0], str | Path):
            self._arrays = [_check_array(image, number) for number, image in enumerate(images)]
            self.paths = [f"image {number}" for number in range(len(images))]
        else:
            self.paths = _expand(images, listener)
        if not self.paths:
            raise DataError("nothing to predict: expected at least one image. Received: none")

    def read(self, number, at_least=None):
        """Return image `number` as uint8 RGB `(height, width, 3)`; for `at_least` see `tlkit.data.decode.decode`."""
        if self._arrays is not None:
            return self._arrays[number]
        return decode(read_file(self.paths[number]), at_least)


def _check_array(image, number):
    image = np.asarray(image)
    gray = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise DataError(
            f"image {number}: expected a uint8 array (height, width, 1 or 3). Received: {image.dtype} {image.shape}"
        )
    return as_rgb(image)


def _expand(paths, listener):
    """Return the image files named by `paths`: a named file must be readable, one in a folder is left out if not."""
    named, found = [], []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(images_below(path))
        elif path.is_file():
            found.append(path)
            named.append(path)
        else:
            raise DataError(f"{path}: no such file or folder. Give images or folders of images.")
    usable = []
    for path, verdict in zip(found, check_files(found, listener.files_checked), strict=True):
        if verdict.problem is None:
            usable.append(str(path))
        elif path in named:
            raise DataError(f"{path}: {verdict.problem}")
        else:
            listener.note(f"left out {path}: {verdict.problem}")
    return usable
