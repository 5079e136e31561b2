"""`tlkit experiment`: the list, and what a user can get wrong."""

import json

import numpy as np
import pytest

from tlkit.experiments import EXPERIMENTS


@pytest.mark.parametrize("command", [["experiment"], ["experiment", "--help"]], ids=" ".join)
def test_without_a_name_it_lists_them_all(command, tlkit):
    status, out, _ = tlkit(*command)
    assert status == 0
    said = " ".join(out.split())
    assert all(one.name in out for one in EXPERIMENTS.values())
    assert "--seeds" in said


def test_the_list_as_json(tlkit):
    status, out, _ = tlkit("experiment", "--json")
    assert status == 0
    assert [one["name"] for one in json.loads(out)] == list(EXPERIMENTS)


MISTAKES = {
    "unknown": (["dept"], "Did you mean 'depth'?"),
    "no data": (["depth"], "--data: missing"),
    "data that isn't there": (["translation", "--data", "gone.npz"], "no such file"),
    "an archive that isn't there": (["depth", "--data", "gone.tar.gz"], "no such file or folder"),
    "another archive": (["depth", "--data", "text.txt"], "can't be read"),
    "not digits": (["permuted-pixels", "--data", "text.txt"], "expected mnist.npz"),
    "other images": (["permuted-pixels", "--data", "other.npz"], "28 x 28"),
    "idle option": (["initialization", "--epochs", "3"], "--epochs: does nothing"),
    "idle data": (["initialization", "--data", "text.txt"], "--data: does nothing"),
    "one seed": (["initialization", "--seeds", "1"], "2<=x<=100"),
    "a file as folder": (["initialization", "--out", "text.txt"], "expected a folder"),
    "a folder with other things": (["initialization", "--out", "full"], "holds no experiment"),
    "an empty folder as CIFAR": (["depth", "--data", "full"], "Expected train/<class>/"),
}


@pytest.mark.parametrize(("command", "said"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_are_one_line(command, said, tlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("keep me")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    images, labels = np.zeros((20, 8, 8), np.uint8), np.zeros(20, np.uint8)
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    status, out, err = tlkit("experiment", *command)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert said in err
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "text.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("images", "said"), [("11", "at least 4 of each"), ("1000", "334 of class 0 are needed; there are 100")]
)
def test_digits_that_are_not_there(images, said, tlkit, digits, tmp_path):
    out_folder = tmp_path / "out"
    command = ("experiment", "translation", "--data", digits, "--images", images, "--out", out_folder)
    status, _, err = tlkit(*command)
    assert status == 2
    assert said in err
    assert not out_folder.exists()


@pytest.mark.parametrize(("images", "said"), [("13", "a multiple of 2"), ("50", "25 of class cat are needed")])
def test_pictures_that_are_not_there(images, said, tlkit, pictures, tmp_path):
    status, _, err = tlkit("experiment", "depth", "--data", pictures, "--images", images, "--out", tmp_path / "out")
    assert status == 2
    assert said in err
