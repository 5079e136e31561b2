"""Run folders of strangers: no way out through links or pipes; any value anywhere is read or refused in one line."""

import json
import os

import keras
import pytest
from damage import VALUES, changed
from fake_runs import INPUTS, METRICS, write_run
from hypothesis import example, given, settings

from tlkit import run as run_folder
from tlkit.delivery.predict import Run
from tlkit.errors import RunError, TlkitError
from tlkit.search.journal import Journal
from tlkit.search.trials import Trials


@pytest.fixture
def run(tmp_path):
    """A run's folder that is as tlkit writes it."""
    return write_run(tmp_path / "run")


def test_a_sound_run_is_read(run):
    assert Run(run).value == METRICS["test"]["tasks"]["cells"]["mean_average_precision"]


@pytest.mark.parametrize("name", ["metrics.json", "model.keras", "anything"])
def test_a_link_in_a_run_is_refused(name, run, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(METRICS))
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    with pytest.raises(RunError, match=rf"{name}: is a symbolic link"):
        Run(run)


def test_a_link_deep_in_a_run_is_refused(run, tmp_path):
    (run / "folds" / "0").mkdir(parents=True)
    (run / "folds" / "0" / "checkpoint").symlink_to(tmp_path)
    with pytest.raises(RunError, match="checkpoint: is a symbolic link"):
        Run(run)


def test_a_run_may_be_reached_through_a_link(run, tmp_path):
    (tmp_path / "latest").symlink_to(run)
    assert Run(tmp_path / "latest").tasks.keys() == INPUTS["tasks"].keys()


def test_a_pipe_in_place_of_a_file_does_not_hang(run):
    (run / "metrics.json").unlink()
    os.mkfifo(run / "metrics.json")
    with pytest.raises(RunError, match=r"metrics\.json: is no plain file"):
        run_folder.read_json(run / "metrics.json")
    with pytest.raises(RunError):
        Run(run)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "null", "[]", '"x"', "1" * 5000, ""])
def test_json_that_is_no_object_gets_one_line(text, run):
    (run / "metrics.json").write_text(text, "utf-8")
    with pytest.raises(RunError, match=r"metrics\.json: expected JSON written by tlkit"):
        Run(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", 10**6), ("image_size", 0), ("image_size", True), ("batch_size", 10**9), ("batch_size", "8"),
     ("block_ends", "end"), ("block_ends", [1]), ("fit", None), ("tasks", {}), ("tasks", [])],
)  # fmt: skip
def test_inputs_that_fit_into_no_memory_or_make_no_sense_are_refused(key, value, run):
    (run / "inputs.json").write_text(json.dumps(INPUTS | {key: value}))
    with pytest.raises(RunError, match=r"inputs\.json"):
        Run(run)


def test_sizes_that_are_possible_each_but_not_together_are_refused(run):
    (run / "inputs.json").write_text(json.dumps(INPUTS | {"image_size": 224, "batch_size": 65536}))
    with pytest.raises(RunError, match=r"inputs\.json: 65536 images of 224 pixels fit into no memory"):
        Run(run)


@pytest.mark.parametrize("side", [None, 16])
def test_a_model_of_other_images_than_the_run_s_is_refused(side, run):
    image = keras.Input((side, side, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(run / "model.keras")
    with pytest.raises(RunError, match=r"model\.keras: expected a model of images of 8 pixels"):
        Run(run).model  # noqa: B018


@settings(deadline=None)
@given(inputs=changed(INPUTS), metrics=changed(METRICS))
@example(inputs=INPUTS, metrics={"primary": "test", "test": {"tasks": {"cells": {"kind": "multilabel"}}}})
@example(inputs=INPUTS | {"tasks": {"cells": {"kind": "regression", "classes": ["a"]}}}, metrics=METRICS)
def test_any_inputs_and_metrics_are_used_or_refused(inputs, metrics, tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("run") / "run")
    (path / "inputs.json").write_text(json.dumps(inputs))
    (path / "metrics.json").write_text(json.dumps(metrics))
    try:
        run = Run(path)
        used = run.value, run.interval, run.headline, run.tasks
    except TlkitError as error:
        used = str(error)
    assert "\n" not in used if isinstance(used, str) else used[3]


class _Oracle:
    """Has nothing to propose, and hears whatever it is told."""

    def ask(self):
        return None

    def tell(self, number, score):
        pass


ANSWER = {"told": 0, "answer": {"status": "done", "score": 0.5, "curve": [0.5], "seconds": 1.0, "reason": ""}}


@settings(deadline=None)
@given(line=changed(ANSWER) | VALUES)
@example(line=ANSWER | {"answer": {"status": "done", "score": None}})
@example(line={"decided": []})
def test_any_line_of_a_journal_is_taken_or_refused(line, tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "journal.jsonl"
    path.write_text(json.dumps(line) + "\n")
    journal = None
    try:
        journal = Journal(path)
        trials = Trials(_Oracle(), journal)
        used = trials.seconds, trials.best
    except TlkitError as error:
        used = str(error)
    finally:
        if journal:
            journal.close()
    assert "\n" not in used if isinstance(used, str) else used[0] >= 0 or used


def test_a_journal_is_not_written_through_a_link(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "victim").write_text("precious\n")
    (tmp_path / "search" / "journal.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match="is a symbolic link"):
        Journal(tmp_path / "search" / "journal.jsonl")
    assert (tmp_path / "victim").read_text() == "precious\n"
