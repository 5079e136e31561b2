"""A run's last step is its report, and nothing that goes wrong with it costs the run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from page import read_page

import tlkit
from tlkit.api import finetune_recipe
from tlkit.api.report import report_runs
from tlkit.delivery import report
from tlkit.progress import Listener
from tlkit.recipe import read_recipe

QUICK = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2}]


class Notes(Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_run_ends_with_its_report(tiny_run):
    page = read_page(tiny_run.path / "report.html")
    assert page.one("h1").values == [tiny_run.accuracy]
    assert {"headline", "task-0", "training", "data", "repeat"} <= {s.attributes["id"] for s in page.all("section")}


def test_the_report_can_be_made_again_from_the_folder(tiny_run):
    first = (tiny_run.path / "report.html").read_bytes()
    assert report_runs([tiny_run.path]) == tiny_run.path / "report.html"
    assert (tiny_run.path / "report.html").read_bytes() == first


def test_mistakes_are_explained_by_the_model_that_made_them(tiny_lite0_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_lite0_run.path, run)
    rows = (run / "predictions_test.csv").read_text().splitlines()
    swapped = [row.replace(",a,", ",X,", 1).replace(",b,", ",a,", 1).replace(",X,", ",b,", 1) for row in rows[1:]]
    (run / "predictions_test.csv").write_text("\n".join([rows[0], *swapped]) + "\n")
    page = read_page(report_runs([run]))
    cards = page.one("ol", css="mistakes").all("li")
    assert cards
    for card in cards:
        photo, overlay = card.all("img")
        assert photo.attributes["src"].startswith("data:image/jpeg;base64,")
        assert overlay.attributes["src"] != photo.attributes["src"]
        assert overlay.attributes["alt"].startswith("The same image with a map of what spoke for")
    assert "Grad\u2011CAM" in page.text


def test_a_report_that_fails_costs_a_note(photos, tmp_path, tiny, monkeypatch):
    def fail(*_args, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "render", fail)
    notes = Notes()
    recipe = read_recipe("default", tiny, {"stages": QUICK, "head.init": "random"})
    run = finetune_recipe(recipe, photos, out=tmp_path / "run", listener=notes)
    assert 0 <= run.accuracy <= 1
    assert not (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "checkpoint").exists()
    (note,) = [note for note in notes.notes if note.startswith("no report")]
    assert "No space left on device" in note
    assert f"tlkit report {tmp_path / 'run'}" in note


# A program that is killed for good when it has half of its report.
DOOMED = """
import os, signal
from tlkit.cli import main
from tlkit.delivery import report

def die(*_args, **_settings):
    os.kill(os.getpid(), signal.SIGKILL)

report.render = die
main()
"""


@pytest.mark.slow
def test_a_run_killed_in_its_report_resumes_to_the_same(photos, tmp_path):
    settings = ["data.image_size=32", "data.batch_size=8", "stages=[{unfreeze=0, epochs=2, learning_rate=1e-2}]"]
    command = ["finetune", "--data", str(photos), *(part for setting in settings for part in ("--set", setting))]
    whole = subprocess.run([sys.executable, "-m", "tlkit", *command, "--out", str(tmp_path / "whole")], check=False)
    assert whole.returncode == 0
    killed = subprocess.run([sys.executable, "-c", DOOMED, *command, "--out", str(tmp_path / "killed")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.html").exists()
    again = [sys.executable, "-m", "tlkit", "finetune", "--resume", "--out", str(tmp_path / "killed")]
    assert subprocess.run(again, check=False, env=os.environ).returncode == 0
    for name in ("metrics.json", "history.csv", "predictions_test.csv", "selection.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_page(tmp_path / "killed" / "report.html").one("h1").values


@pytest.mark.slow
def test_the_run_of_folds_has_one_report_on_all_folds(photos, tmp_path, tiny):
    recipe = read_recipe("default", tiny, {"stages": QUICK, "data.folds": 2, "head.init": "random"})
    run = finetune_recipe(recipe, photos, out=tmp_path / "run")
    page = read_page(run.path / "report.html")
    assert page.one("h1").values == [run.accuracy]
    assert sum(page.one("table", css="confusion").one("tbody").values) == 24
    assert [path.parent.name for path in Path(run.path).rglob("report.html")] == ["run"]


@pytest.mark.slow
def test_the_command_in_the_report_repeats_the_run(tiny_run, tmp_path):
    from tlkit.delivery.folder import Folder

    command = report.repeat_command(Folder(tiny_run.path)).split()
    assert command[:2] == ["tlkit", "finetune"]
    done = subprocess.run([sys.executable, "-m", *command, "--out", str(tmp_path / "again")], check=False)
    assert done.returncode == 0
    for name in ("metrics.json", "history.csv", "recipe.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run.path / name).read_bytes()


def test_arrays_are_pictured_while_they_are_at_hand(tmp_path, tiny):
    import numpy as np

    random = np.random.default_rng(0)
    images = random.integers(0, 255, (60, 32, 32, 3)).astype(np.uint8)
    data = tlkit.load_data((images, random.integers(0, 2, 60)))
    model = tlkit.build_model("efficientnet_lite0", data.tasks, image_size=32, init="random")
    run = tlkit.finetune(model, data, stages=QUICK, settings={"data.batch_size": 8}, out=tmp_path / "run")
    page = read_page(run.path / "report.html")
    assert page.one("ol", css="mistakes").all("img")
    assert "came from Python" in page.one("section", id="repeat").text
