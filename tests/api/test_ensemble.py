"""Runs averaged: on which images, in which order of classes, and what that gains; the models are tables here."""

import json

import numpy as np
import pytest
from compared_runs import LABEL, says, write_run, write_table

import tlkit
from tlkit.api.ensemble import average_members
from tlkit.data.index import with_split
from tlkit.delivery.predict import Run
from tlkit.errors import RunError
from tlkit.evaluation.compare import mcnemar_p
from tlkit.progress import Listener
from tlkit.tasks import Task

TRUTH = np.array([0, 1, 2] * 8)


class Notes(Listener):
    """Keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def data():
    """Twenty-four images, the last twelve for testing and four before them for validation."""
    images = np.arange(24, dtype=np.uint8).reshape(24, 1, 1)
    data = tlkit.load_data((images, np.array(["cat", "dog", "owl"])[TRUTH]))
    return with_split(data, np.array(["train"] * 8 + ["val"] * 4 + ["test"] * 12))


@pytest.fixture
def run(tmp_path, data, monkeypatch):
    """Function that writes a run and says what it predicts: `run(name, outputs, split, tasks)`."""
    tables = {}

    def predicted(self, _data, indices, *, tta="none", **_settings):
        write.views.append(tta)
        return {name: values[indices] for name, values in tables[self.path.name].items()}

    def write(name, outputs, split=None, tasks=None):
        tasks = tasks or LABEL
        nothing = {task: np.zeros(0) for task in tasks}
        folder = write_run(
            tmp_path / name, [], nothing, {n: np.zeros((0, t.num_outputs)) for n, t in tasks.items()}, tasks=tasks
        )
        split = data.split if split is None else split
        write_table(
            folder / "splits.csv", ("path", "split", "sha256"), zip(data.paths, split, data.sha256, strict=True)
        )
        tables[name] = {task: np.asarray(values, np.float32) for task, values in outputs.items()}
        made = Run(folder)
        made.data = with_split(data, np.asarray(split))
        return made

    monkeypatch.setattr(Run, "probabilities", predicted)
    write.views = []
    return write


def wrong(*positions, certainty=0.7):
    answers = TRUTH.copy()
    answers[list(positions)] = (answers[list(positions)] + 1) % 3
    return {"label": says(answers, certainty=certainty)}


def test_the_average_of_probabilities_is_judged_and_compared_with_the_first(run):
    first, second, third = run("a", wrong(12, 13, 14)), run("b", wrong(15, 14)), run("c", wrong(16))
    result = tlkit.evaluate(first, ensemble=[second, third.path], tta="flip")
    assert run.views == ["flip"] * 3
    assert (result.split, result.metrics["n"], result.metrics["used_for"]) == ("test", 12, [])
    assert result.accuracy == 11 / 12  # only 14 is wrong in two of three
    average = np.mean([wrong(*one)["label"][14] for one in ((14,), (14,), ())], axis=0)
    assert average.argmax() != TRUTH[14]
    assert result.ensemble["runs"] == [str(one.path) for one in (first, second, third)]
    entry = result.ensemble["tasks"]["label"]
    assert entry["members"] == [9 / 12, 10 / 12, 11 / 12]
    assert (entry["first"], entry["second"], entry["won"], entry["lost"]) == (9 / 12, 11 / 12, 2, 0)
    assert entry["p"] == mcnemar_p(2, 0)
    assert entry["verdict"].startswith("not distinguishable: 2 images of 12 decide")
    json.dumps(result.ensemble, allow_nan=False)
    by_hand = np.mean([wrong(12, 13, 14)["label"], wrong(15, 14)["label"], wrong(16)["label"]], axis=0)[12:]
    loss = -np.log(by_hand[np.arange(12), TRUTH[12:]]).mean()
    assert result.metrics["loss"] == pytest.approx(loss, rel=1e-5)


def test_one_run_alone_is_no_ensemble(run):
    assert tlkit.evaluate(run("a", wrong())).ensemble is None


def test_classes_are_matched_by_name(run):
    tasks = {"label": Task("single_label", ("owl", "cat", "dog"))}
    outputs = wrong(12)["label"][:, [2, 0, 1]]
    result = tlkit.evaluate(run("a", wrong(12)), ensemble=[run("b", {"label": outputs}, tasks=tasks)], tta="flip")
    assert result.ensemble["tasks"]["label"]["members"] == [11 / 12, 11 / 12]
    assert result.accuracy == 11 / 12


def test_images_that_a_member_was_fitted_on_are_left_out(run, data):
    others = data.split.copy()
    others[12:15], others[15], others[0:4] = "train", "val", "test"
    notes = Notes()
    pair = run("a", wrong(12, 13, 16)), run("b", wrong(15, 17), split=others)
    result = tlkit.evaluate(pair[0], ensemble=[pair[1]], tta="flip", listener=notes)
    assert result.metrics["n"] == 8
    assert result.ensemble["tasks"]["label"]["members"] == [7 / 8, 7 / 8]  # 16, and 17
    assert notes.notes == ["4 of the 12 images are left out: a run of the ensemble was fitted on them"]
    none_left = run("c", wrong(), split=["test"] * 12 + ["train"] * 12)
    with pytest.raises(RunError, match="each of the 12 images was used to fit a run of the ensemble"):
        tlkit.evaluate(pair[0], ensemble=[none_left], tta="flip")


def test_of_given_data_only_what_nobody_was_fitted_on_counts(run, data):
    pair = run("a", wrong(12)), run("b", wrong(13))
    result = tlkit.evaluate(pair[0], ensemble=[pair[1]], data=data, tta="flip")
    assert (result.split, result.metrics["n"], result.metrics["used_for"]) == ("data", 12, [])


def test_where_there_is_no_test_split_validation_images_stay(run, data):
    split = np.where(data.split == "test", "val", "train")
    result = tlkit.evaluate(run("a", wrong(), split=split), ensemble=[run("b", wrong(), split=split)], tta="flip")
    assert (result.split, result.metrics["n"], result.metrics["used_for"]) == ("val", 12, ["epoch"])
    members = run("c", wrong(), split=split), run("d", wrong(), split=split)
    members[1].metrics["val"] = {"used_for": ["training", "epoch", "calibration"]}  # by any of them
    result = tlkit.evaluate(members[0], ensemble=[members[1]], tta="flip")
    assert result.metrics["used_for"] == ["epoch", "calibration"]  # what was trained on is left out


def test_runs_that_do_not_fit_are_refused(run):
    first = run("a", wrong())
    with pytest.raises(RunError, match="expected each run of an ensemble once"):
        tlkit.evaluate(first, ensemble=[first.path], tta="flip")
    birds = run("b", wrong(), tasks={"label": Task("single_label", ("cat", "emu", "owl"))})
    with pytest.raises(RunError, match=r"b: its label has other classes than .*a: it has emu; it lacks dog\."):
        tlkit.evaluate(first, ensemble=[birds], tta="flip")
    kind = run("c", wrong(), tasks={"kind": LABEL["label"]})
    with pytest.raises(RunError, match=r"c: it has no task 'label', as .*a has, only kind\."):
        tlkit.evaluate(first, ensemble=[kind], tta="flip")
    several = run("d", wrong(), tasks={"label": Task("multilabel", ("cat", "dog", "owl"))})
    with pytest.raises(RunError, match=r"d: label is multilabel, but in .*a it is single_label"):
        tlkit.evaluate(first, ensemble=[several], tta="flip")


def test_all_kinds_are_averaged():
    members = [
        {"cells": np.array([[0.2, 0.9]], np.float32), "count": np.array([[3.0]], np.float32)},
        {"cells": np.array([[0.4, 0.8]], np.float32), "count": np.array([[6.0]], np.float32)},
        {"cells": np.array([[0.0, 1.0]], np.float32), "count": np.array([[0.0]], np.float32)},
    ]
    tasks = {"cells": Task("multilabel", ("x", "y")), "count": Task("regression")}
    averaged = average_members(members, tasks)
    assert averaged["cells"] == pytest.approx(np.array([[0.2, 0.9]]))
    assert averaged["count"] == pytest.approx(np.array([[3.0]]))
    assert averaged["cells"].dtype == np.float32
    logits = average_members(members[:2], tasks, "logits")
    odds = ((0.2 / 0.8) * (0.4 / 0.6)) ** 0.5
    assert logits["cells"][0, 0] == pytest.approx(odds / (1 + odds))
    assert logits["count"] == pytest.approx(np.array([[4.5]]))


def test_runs_are_averaged_in_the_way_that_views_are(run):
    outputs = [{"label": says(TRUTH, certainty=certainty)} for certainty in (0.9, 0.2)]
    members = [run(name, of) for name, of in zip("ab", outputs, strict=True)]
    by_how = {
        how: tlkit.evaluate(members[0], ensemble=members[1:], tta="flip", average=how).metrics["loss"]
        for how in ("probabilities", "logits")
    }
    probabilities = [of["label"][12:][np.arange(12), TRUTH[12:]] for of in outputs]
    assert by_how["probabilities"] == pytest.approx(-np.log(np.mean(probabilities, axis=0)).mean(), rel=1e-5)
    product = np.sqrt(outputs[0]["label"] * outputs[1]["label"])[12:]
    expected = (product / product.sum(axis=1, keepdims=True))[np.arange(12), TRUTH[12:]]
    assert by_how["logits"] == pytest.approx(-np.log(expected).mean(), rel=1e-5)


def test_views_that_are_likely_to_hurt_are_named(run):
    sides, notes = ("left", "right", "up"), Notes()
    data = tlkit.load_data((np.arange(24, dtype=np.uint8).reshape(24, 1, 1), np.array(sides)[TRUTH]))
    members = [run(name, wrong(), tasks={"label": Task("single_label", sides)}) for name in "ab"]
    tlkit.evaluate(members[0], data=data, ensemble=members[1:], tta="flip", listener=notes)
    assert notes.notes[-1].startswith("the test-time views 'flip' mirror it, and the classes look like directions")
