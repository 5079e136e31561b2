"""A run whose model is far too sure: its temperature is fitted once, kept, and part of everything that predicts."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from doomed import assert_same_bits
from keras import layers
from scipy.special import softmax

import tlkit
from tlkit.api import recording
from tlkit.api.calibrating import refuse_idle_sets
from tlkit.errors import RecipeError, Stopped
from tlkit.models.assemble import assemble
from tlkit.progress import Listener
from tlkit.tasks import Task

TEMPERATURE = 8.0
STAGES = [{"unfreeze": "all", "epochs": 1, "learning_rate": 1e-9}]  # the model is what it is


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def data():
    """Three hundred images of three hues; labels are drawn by the hue's share in the image."""
    random = np.random.default_rng(0)
    shares = random.dirichlet([1, 1, 1], 300)
    images = np.broadcast_to(np.round(shares * 200 + 20)[:, None, None], (300, 16, 16, 3)).astype(np.uint8)
    true = softmax(6 * (images[:, 0, 0] / 255), axis=1)
    labels = (random.random((300, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return tlkit.load_data((images, np.array(["a", "b", "c"])[labels]))


def make_model(data, last="dense"):
    """The probabilities that the labels were drawn from, but `TEMPERATURE` times too sure."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(3, 1, name="block1")(layers.Rescaling(1 / 255)(image))

    def head(features):
        x = layers.GlobalAveragePooling2D()(features)
        x = layers.Dense(3, name="dense")(x)
        return x if last == "dense" else keras.ops.clip(x, -1e6, 1e6)

    model = assemble(keras.Model(image, x, name="hues"), head, data.tasks)
    model.get_layer("block1").kernel.assign(np.eye(3)[None, None])
    model.get_layer("dense").kernel.assign(6 * TEMPERATURE * np.eye(3))
    return model


def finetune(data, out, model=None, listener=None, resume=False, **settings):
    return tlkit.finetune(
        model or make_model(data),
        data,
        stages=STAGES,
        settings={"evaluation.conformal": 0.1} | settings,
        block_ends=["block1"],
        cache="off",
        out=out,
        listener=listener,
        resume=resume,
    )


@pytest.fixture(scope="module")
def calibrated(data, tmp_path_factory):
    """A run with conformal sets, and what it said."""
    listener, out = Notes(), tmp_path_factory.mktemp("calibrated") / "run"
    return finetune(data, out, listener=listener), listener.lines


def predictions(path, split):
    with (path / f"predictions_{split}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[f"label.{name}"]) for name in "abc"] for row in rows])


def test_the_temperature_is_kept_and_reported(calibrated):
    run, lines = calibrated
    entry = run.metrics["calibration"]["tasks"]["label"]
    assert run.metrics["calibration"]["fitted_on"] == "val"
    assert entry["method"] == "temperature"
    assert entry["kept"]
    assert 4 < entry["temperature"] < 16  # 44 images tell it no better
    assert entry["n"] == run.metrics["val"]["n"]
    (line,) = [line for line in lines if line.startswith("calibration: ")]
    assert line.startswith(f"calibration: temperature {entry['temperature']:.2f} on {entry['n']} validation images; ")
    assert line.endswith("there, cross-fitted; kept")
    assert run.metrics["val"]["used_for"] == ["epoch", "calibration"]
    assert run.metrics["test"]["used_for"] == []
    for split in ("val", "test"):
        after, task = entry[split]["after"], run.metrics[split]["tasks"]["label"]
        assert {key: after[key] for key in ("log_loss", "brier", "ece")} == {
            key: task[key] for key in ("log_loss", "brier", "ece")
        }
        assert sum(row["n"] for row in after["reliability"]) == run.metrics[split]["n"]
    assert entry["val"]["after"]["log_loss"] < entry["val"]["before"]["log_loss"]


def test_before_is_what_the_run_without_calibration_has(calibrated, data, tmp_path):
    run, _ = calibrated
    plain = finetune(data, tmp_path / "run", **{"evaluation.calibration": "none", "evaluation.conformal": 0})
    assert "calibration" not in plain.metrics
    assert "conformal" not in plain.metrics
    assert plain.metrics["val"]["used_for"] == ["epoch"]
    assert (plain.path / "selection.json").read_bytes() == (run.path / "selection.json").read_bytes()
    entry = run.metrics["calibration"]["tasks"]["label"]
    for split in ("val", "test"):
        figures = plain.metrics[split]["tasks"]["label"]
        assert entry[split]["before"]["log_loss"] == pytest.approx(figures["log_loss"], rel=1e-3)
        assert entry[split]["before"]["ece"] == pytest.approx(figures["ece"], abs=1e-3)
        assert run.metrics[split]["tasks"]["label"]["accuracy"] == figures["accuracy"]
        as_was, scaled = (predictions(of.path, split) for of in (plain, run))
        np.testing.assert_allclose(scaled, softmax(np.log(as_was) / entry["temperature"], axis=1), atol=1e-5)
    assert entry["test"]["after"]["log_loss"] < 0.7 * entry["test"]["before"]["log_loss"]


BARE = """
import sys
sys.modules["tlkit"] = None
import keras, numpy as np
images = np.load(sys.argv[1])
print([keras.saving.load_model(path).predict(images, verbose=0).tolist() for path in sys.argv[2:]])
"""


def test_the_files_alone_give_the_calibrated_probabilities(calibrated, data, tmp_path):
    """Whether the temperature is in a dense layer, or in a `Rescaling` of its own."""
    model = make_model(data, last="clip")
    other = finetune(data, tmp_path / "run", model)
    temperature = calibrated[0].metrics["calibration"]["tasks"]["label"]["temperature"]
    assert other.metrics["calibration"]["tasks"]["label"]["temperature"] == temperature
    assert len(other.model.layers) == len(model.layers) + 1
    images = np.stack([data.read(i) for i in data.indices("test")])
    np.save(tmp_path / "images.npy", images)
    files = [str(of.path / "model.keras") for of in (calibrated[0], other)]
    command = [sys.executable, "-c", BARE, str(tmp_path / "images.npy"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for run, values in zip((calibrated[0], other), json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(values, predictions(run.path, "test"), atol=1e-5)


def test_a_run_loaded_later_is_calibrated_by_itself(calibrated, data):
    run, _ = calibrated
    result = tlkit.evaluate(run)
    expected = run.metrics["test"]["tasks"]["label"]["log_loss"]
    assert result.metrics["tasks"]["label"]["log_loss"] == pytest.approx(expected, rel=1e-4)
    assert result.metrics["used_for"] == []
    assert result.metrics["conformal"]["label"]["coverage"] == run.metrics["conformal"]["label"]["coverage"]
    everything = tlkit.evaluate(run.path, data=data)
    assert everything.metrics["used_for"] == ["training", "epoch", "calibration"]


def test_conformal_sets_are_not_checked_on_the_images_that_they_were_fitted_on(calibrated, data):
    run, _ = calibrated
    validation = (np.stack([data.read(i) for i in data.indices("val")]), data.labels["label"][data.indices("val")])
    names = np.array(data.tasks["label"].classes)[validation[1]]
    entry = tlkit.evaluate(run, data=(validation[0], names)).metrics["conformal"]["label"]
    assert (entry["coverage"], entry["mean_size"], entry["n"]) == (None, None, 0)
    assert entry["threshold"] == run.metrics["conformal"]["label"]["threshold"]


def test_conformal_sets_are_recorded_checked_and_given(calibrated, data):
    run, lines = calibrated
    entry = run.metrics["conformal"]["label"]
    assert entry["alpha"] == 0.1
    assert entry["n"] == run.metrics["test"]["n"]
    assert entry["n_fitted"] == run.metrics["val"]["n"]
    recorded = json.loads((run.path / "inputs.json").read_text())["tasks"]["label"]["conformal"]
    assert recorded == {"alpha": 0.1, "threshold": entry["threshold"]}
    low, high = entry["coverage_interval"]
    assert low <= entry["coverage"] <= high
    (line,) = [line for line in lines if line.startswith("conformal sets: ")]
    assert line.startswith("conformal sets: 0.9 coverage, from probability ")
    assert "approximate" in line
    sizes = np.maximum((predictions(run.path, "test") >= entry["threshold"]).sum(axis=1), 1)
    assert entry["mean_size"] == pytest.approx(sizes.mean())
    images = np.stack([data.read(i) for i in data.indices("test")[:5]])
    for prediction in tlkit.load_run(run.path).predict(images):
        answer = prediction.answers["label"]
        assert answer.conformal_set[0] == answer.label
        likely = {name for name, p in answer.probabilities.items() if p >= entry["threshold"]}
        assert set(answer.conformal_set) == likely | {answer.label}


FILES = ("metrics.json", "inputs.json")


@pytest.mark.parametrize("function", ["calibrate", "score_splits"])
def test_stopped_around_calibration(calibrated, data, tmp_path, monkeypatch, function):
    """After the temperature was folded in, and after the model was saved: it is applied once all the same."""
    original = getattr(recording, function)

    def interrupted(*arguments):
        if function == "calibrate":
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recording, function, interrupted)
        with pytest.raises(Stopped):
            finetune(data, tmp_path / "run")
    assert (tmp_path / "run" / "model.keras").exists()  # the best so far, calibrated or not
    assert not (tmp_path / "run" / "metrics.json").exists()
    finetune(data, tmp_path / "run", resume=True)
    assert_same_bits(tmp_path / "run", calibrated[0].path, FILES)


DOOMED = """
import os, signal, sys
from tlkit import run as run_folder
from tlkit.cli import main

write, last = run_folder.write_text, sys.argv.pop(1)

def doomed(path, text):
    if path.name == last:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, text)

run_folder.write_text = doomed
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("last", ["predictions_val.csv", "timing.json", "metrics.json"])
def test_killed_after_calibration(photo_folder, tmp_path, last):
    photos = photo_folder(tmp_path / "photos", per_class=110)
    for i in range(0, 110, 4):  # every fourth photo is in the wrong folder
        one, other = (photos / name / f"{i:02}.jpg" for name in "ab")
        one.rename(photos / "spare.jpg")
        other.rename(one)
        (photos / "spare.jpg").rename(other)
    settings = ["stages=[{unfreeze=0, epochs=1, learning_rate=3.0}]", "head.init=random", "data.image_size=32"]
    settings += ["data.batch_size=8", "evaluation.conformal=0.1"]

    def run(out, program, *more):
        command = [sys.executable, *program, "finetune", "--data", str(photos), "--out", str(out), *more]
        command += [word for setting in settings for word in ("--set", setting)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())

    assert run(tmp_path / "expected", ("-m", "tlkit")).returncode == 0
    metrics = json.loads((tmp_path / "expected" / "metrics.json").read_text())
    assert metrics["calibration"]["tasks"]["label"]["kept"]
    assert run(tmp_path / "run", ("-c", DOOMED, last)).returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "model.keras").exists()
    assert run(tmp_path / "run", ("-m", "tlkit"), "--resume").returncode == 0
    assert_same_bits(tmp_path / "run", tmp_path / "expected", FILES)


def test_too_few_validation_images_are_found_out_before_training(data, tmp_path):
    with pytest.raises(RecipeError, match=r"0\.01 takes at least 99 validation images with a label of label"):
        finetune(data, tmp_path / "run", **{"evaluation.conformal": 0.01})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [1, 2, 6, 7, 30, 200])
def test_the_smallest_error_that_is_advised_will_do(count):
    """One over seven is 0.142857..., and 0.14 is less."""
    labels = np.arange(count) % 2
    few = SimpleNamespace(
        tasks={"label": Task("single_label", ("a", "b"))}, labels={"label": labels}, indices=lambda _: np.arange(count)
    )

    def refuse(alpha):
        refuse_idle_sets(SimpleNamespace(evaluation=SimpleNamespace(conformal=alpha)), few)

    with pytest.raises(RecipeError, match=r"at least 0\.\d+, or 0 for none") as refused:
        refuse(0.001)
    refuse(float(re.search(r"one, at least (\S+),", str(refused.value))[1]))


def test_few_images_leave_the_model_as_it_is(data, tmp_path):
    few = tlkit.load_data((np.stack([data.read(i) for i in range(60)]), data.labels["label"][:60].astype(str)))
    run = finetune(few, tmp_path / "run", make_model(few), **{"evaluation.conformal": 0})
    entry = run.metrics["calibration"]["tasks"]["label"]
    assert (entry["method"], entry["temperature"], entry["kept"]) == ("none", None, False)
    assert "30 labelled validation images" in entry["reason"]
    assert run.metrics["val"]["used_for"] == ["epoch"]
