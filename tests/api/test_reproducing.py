"""`tlkit reproduce`: the same bits here, a stated tolerance elsewhere, and in words what differs."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import tomli_w

from tlkit.api.differences import changes, compare_histories, compare_predictions
from tlkit.api.reproducing import CLOSE, DIFFERENT, IDENTICAL, compare_runs, judge, reproduce
from tlkit.delivery.predict import Run
from tlkit.errors import RunError, TlkitError

SAME = {
    "recipe": {},
    "data": {"same": True},
    "environment": {},
    "history": {"first_difference": None},
    "weights": {"same": True},
    "metrics": {},
    "predictions": {"test": {"label": {"n": 100, "other_answers": 0, "largest_difference": 0.0}}},
}


def answers(others, apart, n=100):
    return {"test": {"label": {"n": n, "other_answers": others, "largest_difference": apart}}}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({}, IDENTICAL),
        ({"environment": {"threads": [2, 1]}}, IDENTICAL),
        ({"weights": {"same": False}}, CLOSE),
        ({"history": {"first_difference": 3}}, CLOSE),
        ({"metrics": {"test.loss": [0.1, 0.2]}}, CLOSE),
        ({"predictions": answers(2, 0.049)}, CLOSE),
        ({"predictions": answers(3, 0.001)}, DIFFERENT),
        ({"predictions": answers(0, 0.051)}, DIFFERENT),
        ({"predictions": answers(None, 0.051)}, DIFFERENT),
        ({"recipe": {"seed": [0, 1]}}, DIFFERENT),
        ({"data": {"same": False}}, DIFFERENT),
    ],
)
def test_the_verdict_is_that_of_the_worst(found, verdict):
    assert judge(**(SAME | found))[0] == verdict


def test_the_reason_says_whether_the_machine_was_another():
    assert "although the environment is the same" in judge(**(SAME | {"predictions": answers(1, 0.01)}))[1]
    elsewhere = SAME | {"predictions": answers(1, 0.01), "environment": {"threads": [2, 1]}}
    assert "computed elsewhere (threads)" in judge(**elsewhere)[1]
    assert "1.0 % of the answers" in judge(**elsewhere)[1]


def test_a_run_that_changed_under_way_is_not_said_to_have_had_the_same_environment():
    verdict, why = judge(**(SAME | {"predictions": answers(1, 0.5)}), changed=["data", "recipe"])
    assert verdict == "differs"
    assert "the run's data, recipe changed under way (--allow-changed)" in why


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("data.json", '{"source": 5}'),
        ("data.json", '{"source": "' + "x" * 5000 + '"}'),
        ("timing.json", '{"total_seconds": "long"}'),
        ("environment.json", '{"changes": [1]}'),
        ("model.keras", "no archive"),
    ],
)
def test_a_file_that_can_not_be_compared_shows_before_the_training(file, content, copy, monkeypatch):
    monkeypatch.setattr("tlkit.api.reproducing.finetune_recipe", lambda *_, **__: pytest.fail("hours went by"))
    (copy / file).write_text(content)
    with pytest.raises(TlkitError) as raised:
        reproduce(copy)
    assert "\n" not in str(raised.value)


def test_changes_name_nested_keys():
    before = {"a": 1, "b": {"c": [1, 2], "d": [{"e": 1}, {"e": 2}]}}
    now = {"a": 1, "b": {"c": [1, 3], "d": [{"e": 1}]}}
    assert changes(before, now) == {"b.c": [[1, 2], [1, 3]], "b.d.1.e": [2, None]}


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A copy of a run's folder, to be changed."""
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_same_machine_gives_the_same_bits(tiny_run, tlkit, tmp_path):
    status, out, err = tlkit("reproduce", tiny_run.path, "--out", tmp_path / "again", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["verdict"] == "identical to the bit"
    assert found["now"] == str(tmp_path / "again")
    assert [found[what] for what in ("recipe", "environment", "metrics")] == [{}, {}, {}]
    assert found["weights"] == {"same": True}
    assert found["history"]["epochs"] == [3, 3]
    assert found["predictions"]["test"]["label"]["n"] == 4
    assert (tmp_path / "again" / "report.html").is_file()


def test_other_data_are_named_and_are_no_repetition(tiny_run, tlkit, tmp_path):
    source = tiny_run.path.parent / "photos"
    shutil.copytree(source, tmp_path / "photos")
    (tmp_path / "photos" / "a" / "00.jpg").unlink()
    status, out, _ = tlkit("reproduce", tiny_run.path, "--data", tmp_path / "photos", "--out", tmp_path / "again")
    assert status == 2
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert "1 lost" in lines["data"]
    assert lines["recipe"] == "the same"
    assert lines["verdict"].startswith("differs: the data isn't the run's")


def edit_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_csv(path, change):
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_what_differs_is_measured(tiny_run, copy):
    def shift(rows):
        for row in rows[1:]:
            surer = 0.01 if float(row[3]) > float(row[4]) else -0.01  # no answer changes
            row[3], row[4] = f"{float(row[3]) + surer:.7g}", f"{float(row[4]) - surer:.7g}"

    edit_csv(copy / "predictions_test.csv", shift)
    edit_csv(copy / "history.csv", lambda rows: rows[2].__setitem__(rows[0].index("loss"), "9"))
    edit_json(copy / "environment.json", threads=64)
    found = compare_runs(tiny_run, Run(copy))
    assert found.predictions["test"]["label"]["largest_difference"] == pytest.approx(0.01, rel=1e-3)
    assert found.predictions["val"]["label"]["largest_difference"] == 0
    assert found.history["first_difference"] == 1
    assert set(found.history["largest_difference"]) == {"loss"}
    assert found.environment["threads"][1] == 64
    assert found.verdict == CLOSE


def test_weights_that_differ_are_counted(tiny_run, copy):
    import keras

    model = keras.saving.load_model(copy / "model.keras")
    model.trainable_variables[0].assign_add(model.trainable_variables[0] * 0 + 0.5)
    model.save(copy / "model.keras")
    found = compare_runs(tiny_run, Run(copy)).weights
    assert (found["same"], found["differing"]) == (False, 1)
    assert found["largest_difference"] == pytest.approx(0.5)


def test_epochs_that_are_missing_differ(tiny_run, copy):
    edit_csv(copy / "history.csv", lambda rows: rows.pop())
    found = compare_histories(tiny_run.path, copy)
    assert (found["epochs"], found["first_difference"]) == ([3, 2], 2)


def test_answers_that_differ_are_counted(tiny_run, copy):
    def turn(rows):
        rows[1][3], rows[1][4] = rows[1][4], rows[1][3]

    edit_csv(copy / "predictions_test.csv", turn)
    assert compare_predictions(tiny_run.path, copy, tiny_run.tasks)["test"]["label"]["other_answers"] == 1


def edit_recipe(path, **head):
    values = tomllib.loads((path / "recipe.toml").read_text())
    values["head"] |= head
    (path / "recipe.toml").write_text(tomli_w.dumps(values))


def refused(said, *arguments, **settings):
    with pytest.raises(RunError) as error:
        reproduce(*arguments, **settings)
    assert "\n" not in str(error.value)
    assert said in str(error.value)


def test_what_a_folder_alone_can_not_repeat_is_one_line(tiny_run, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a stranger was run')")
    refused("has tlkit's own head", copy, head="mine:head")
    edit_recipe(copy, custom="evil:head")
    refused("add --head evil:head", copy)
    edit_recipe(copy, custom="a model of the user's own")
    refused("Train from Python", copy)
    edit_recipe(copy, custom="")
    edit_json(copy / "data.json", source="arrays")
    refused("was trained on arrays", copy)
    edit_json(copy / "data.json", source=str(tmp_path / "gone"))
    refused("Say where they are with --data", copy)
    shutil.copytree(copy, copy / "folds" / "0")
    refused(f"tlkit reproduce {copy}", copy / "folds" / "0")
    (copy / "metrics.json").unlink()
    refused("not complete", copy)


def command(*arguments, threads=None):
    environment = os.environ | ({"TF_NUM_INTRAOP_THREADS": str(threads)} if threads else {})
    run = [sys.executable, "-m", "tlkit", *map(str, arguments)]
    answer = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode in (0, 2), answer.stderr
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folds", "tasks", "head", "budget"])
def test_runs_of_every_kind_repeat_to_the_bit(kind, photo_folder, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = photo_folder(tmp_path / "photos", per_class=20)
    options = [
        part for text in (*tiny, "stages=[{unfreeze=1,epochs=1,learning_rate=1e-3}]") for part in ("--set", text)
    ]
    data, head = photos, []
    if kind == "folds":
        options += ["--folds", "2"]
    if kind == "budget":
        options = ["--budget", "40s", "--set", "data.image_size=32"]
    if kind == "head":
        (tmp_path / "mine.py").write_text(
            "import keras\n\ndef head(x):\n    return keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(x))\n"
        )
        head = ["--head", "mine:head"]
    if kind == "tasks":
        data = tmp_path / "labels.csv"
        random = np.random.default_rng(0)
        with data.open("w", newline="") as file:
            rows = [
                (
                    f"photos/{path.relative_to(photos)}",
                    path.parent.name,
                    round(random.normal(), 3),
                    random.choice(["x", "y", "x|y"]),
                )
                for path in sorted(photos.rglob("*.*"))
            ]
            csv.writer(file).writerows([("path", "kind", "size", "marks"), *rows])
        options += ["--task", "kind=single_label", "--task", "size=regression", "--task", "marks=multilabel"]
    answer = command("finetune", "--data", data, "--out", tmp_path / "run", *options, *head)
    assert answer.returncode == 0, answer.stderr
    answer = command("reproduce", tmp_path / "run", "--out", tmp_path / "again", "--json", *head)
    found = json.loads(answer.stdout)
    assert found["verdict"] == IDENTICAL, found
    assert ("cv" in found["predictions"]) == (kind == "folds")


@pytest.mark.slow
def test_another_number_of_threads_stays_within_the_tolerance(shared_data, tmp_path):
    """Real weights and real photos; a head from scratch, so that what two blocks trained to is what ships."""
    for folder in sorted((shared_data / "clothing").iterdir()):
        if folder.is_dir():
            (tmp_path / "clothing" / folder.name).mkdir(parents=True)
            for photo in sorted(folder.iterdir())[:14]:
                shutil.copy(photo, tmp_path / "clothing" / folder.name)
    stages = "stages=[{unfreeze=2,epochs=4,learning_rate=1e-3}]"
    settings = ("data.image_size=96", "data.batch_size=16", "head.init=random", stages)
    options = [part for text in settings for part in ("--set", text)]
    answer = command("finetune", "--data", tmp_path / "clothing", "--out", tmp_path / "two", *options, threads=2)
    assert answer.returncode == 0, answer.stderr
    same = command("reproduce", tmp_path / "two", "--out", tmp_path / "again", "--json", threads=2)
    assert json.loads(same.stdout)["verdict"] == IDENTICAL
    other = command("reproduce", tmp_path / "two", "--out", tmp_path / "one", threads=1)
    print(other.stdout)
    assert other.returncode == 0, other.stdout
    assert re.search(r"environment: .*threads 2, now 1", other.stdout)
