"""A part of the kill harness, and the proof that it would see what it looks for."""

import shutil
import time

import h5py
import numpy as np
import pytest
from kill_harness import CASES, MORE_CASES, PER_CLASS, PHOTOS, Harness, differing, show, take_photos, work

SECONDS = 540  # after which no run is begun: the last one makes ten minutes of it


@pytest.mark.slow
def test_runs_that_are_killed_come_to_the_same_bits(photo_folder, tmp_path):
    photos = tmp_path / "photos"
    if PHOTOS.is_dir():
        take_photos(PHOTOS, photos)
    else:
        photo_folder(photos, per_class=PER_CLASS)
    harness, until = Harness(photos, tmp_path, seed=0), time.monotonic() + SECONDS
    kills = work(harness, CASES + MORE_CASES, 24, until, show, kills_a_run=3)
    assert len(kills) >= 3
    assert {kill.identical for kill in kills} == {"yes"}


def make_folder(path):
    path.mkdir()
    for name in ("recipe.toml", "history.csv", "metrics.json", "predictions_test.csv"):
        (path / name).write_text(name)
    with h5py.File(path / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.arange(4.0)
    shutil.make_archive(path / "model", "zip", path, "model.weights.h5")
    (path / "model.zip").rename(path / "model.keras")
    return path


def other_weights(path):
    with h5py.File(path / "model.weights.h5", "r+") as file:
        file["layers/dense/vars/0"][3] = np.nextafter(3.0, 4.0)
    shutil.make_archive(path / "model", "zip", path, "model.weights.h5")
    (path / "model.zip").rename(path / "model.keras")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: None, []),
        (lambda path: (path / "predictions_test.csv").write_text("others"), ["predictions_test.csv"]),
        (lambda path: (path / "history.csv").unlink(), ["history.csv"]),
        (other_weights, ["model.keras"]),
        (lambda path: (path / ".lock").touch(), [".lock"]),
        (lambda path: (path / ".state-1.tmp.npz").touch(), [".state-1.tmp.npz"]),
    ],
    ids=["nothing", "predictions", "no history", "the last bit of a weight", "a lock", "half a file"],
)
def test_what_differs_is_found(change, found, tmp_path):
    whole, run = make_folder(tmp_path / "whole"), make_folder(tmp_path / "run")
    change(run)
    assert differing(run, whole) == found
