"""The report says what the run's files say, whatever the task, and nothing of the user's can break it."""

import json
import re

import numpy as np
import pytest
from made_runs import MULTI, NUMBER, SEVERAL, SINGLE, TWO, edit, make_run, write_predictions
from page import read_page

from tlkit.delivery.folder import Folder
from tlkit.delivery.report import repeat_command, write_report
from tlkit.errors import RunError
from tlkit.progress import Listener
from tlkit.tasks import Task

KINDS = {"single": SINGLE, "two": TWO, "multilabel": MULTI, "number": NUMBER, "several": SEVERAL}
PERCENT = {"accuracy", "top5", "subset_accuracy"}
THREE_DIGITS = {"mae", "training_mean_mae", "rmse"}
CALIBRATION = {
    "fitted_on": "val",
    "tasks": {
        "label": {
            "method": "temperature",
            "temperature": 1.37,
            "kept": True,
            "test": {
                when: {
                    "log_loss": loss,
                    "brier": 0.25,
                    "ece": ece,
                    "reliability": [
                        {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
                        {"low": 0.5, "high": 1.0, "n": 40, "confidence": 0.8, "accuracy": 0.7},
                    ],
                }
                for when, loss, ece in (("before", 0.6, 0.11), ("after", 0.5, 0.04))
            },
        }
    },
}
TTA = {
    "average": "probabilities",
    "chosen": "none",
    "rows": [
        {
            "name": "flip",
            "views": 2,
            "split": "test",
            "task": "label",
            "metric": "accuracy",
            "value": 0.95,
            "interval": [0.9, 0.97],
            "gain": -0.0125,
            "gain_interval": [-0.03, 0.0125],
            "flipped_right": 3,
            "flipped_wrong": 4,
            "p": 0.61,
        }
    ],
}
CONFORMAL = {
    "label": {
        "alpha": 0.1,
        "threshold": 0.9,
        "coverage": 0.925,
        "coverage_interval": [0.8, 0.97],
        "mean_size": 1.5,
        "n": 40,
    }
}


def report_of(run, **settings):
    return read_page(write_report(run, **settings))


def written(value, key):
    """Return a figure as a reader expects it, computed apart from the report's own code."""
    if key in PERCENT:
        return f"{value * 100:.1f} %"
    return (f"{value:.3g}" if key in THREE_DIGITS else f"{value:.3f}").replace("-", "\u2212")


class Notes(Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("tasks", KINDS.values(), ids=KINDS)
def test_figures_are_those_of_the_metrics(tmp_path, tasks):
    run = make_run(tmp_path / "run", tasks)
    page = report_of(run)
    metrics = json.loads((run / "metrics.json").read_text())["test"]["tasks"]
    assert len(page.all("table", css="figures")) == len(tasks)
    for table, entry in zip(page.all("table", css="figures"), metrics.values(), strict=True):
        rows = {row.attributes["data-key"]: row.one("td") for row in table.one("tbody").all("tr")}
        expected = {key for key, value in entry.items() if key in rows and value is not None}
        assert set(rows) == expected
        assert {"accuracy", "mean_average_precision", "mae"} & set(rows)
        for key, cell in rows.items():
            assert cell.values[0] == entry[key]
            assert cell.big == written(entry[key], key)
            if f"{key}_interval" in entry:
                assert cell.values[1:] == entry[f"{key}_interval"]


@pytest.mark.parametrize("tasks", KINDS.values(), ids=KINDS)
def test_the_first_screen_says_what_how_good_and_how_sure(tmp_path, tasks):
    run = make_run(tmp_path / "run", tasks)
    page = report_of(run)
    metrics = json.loads((run / "metrics.json").read_text())["test"]["tasks"]
    keys = {"single_label": "accuracy", "multilabel": "mean_average_precision", "regression": "mae"}
    headlines = [entry[keys[entry["kind"]]] for entry in metrics.values()]
    assert page.one("h1").values == headlines
    first = page.one("section", id="headline")
    bigs = first.all("p", css="big")
    for big, entry, value in zip(bigs, metrics.values(), headlines, strict=True):
        assert big.values == [value, *entry[f"{keys[entry['kind']]}_interval"]]
    assert first.one("span", css="badge").text == "Unbiased test"


def test_two_classes_and_the_count_in_words(tmp_path):
    run = make_run(tmp_path / "run", TWO)
    page = report_of(run)
    entry = json.loads((run / "metrics.json").read_text())["test"]["tasks"]["label"]
    right = round(entry["accuracy"] * 40)
    assert (
        f"tells no from yes in images and was right on {written(entry['accuracy'], 'accuracy')}" in page.one("h1").text
    )
    assert f"Of 40 test images that it had never seen, it got {right} right." in page.one("section", id="headline").text


def test_a_split_that_chose_something_is_optimistic(tmp_path):
    page = report_of(make_run(tmp_path / "run", split="val", used_for=["epoch", "calibration"]))
    first = page.one("section", id="headline")
    assert first.one("span", css="badge").text == "Optimistic"
    assert "used for choosing the best epoch and calibrating the probabilities" in first.text
    assert "never seen" not in first.text


def test_an_answer_that_ignores_the_image_is_held_against_the_model(tmp_path):
    run = make_run(tmp_path / "run", NUMBER, quality=0.5)
    assert "not shown to do better" in report_of(run).one("section", id="headline").text
    assert "not shown to do better" not in report_of(make_run(tmp_path / "good", NUMBER, quality=4)).text


@pytest.mark.parametrize(("tasks", "quality"), [(TWO, -3.0), (NUMBER, 0.05)])
def test_a_model_that_is_worse_than_a_constant_answer_is_said_to_be(tmp_path, tasks, quality):
    text = report_of(make_run(tmp_path / "run", tasks, quality=quality)).one("section", id="headline").text
    assert "The whole interval is worse than that" in text
    assert "includes that" not in text


def test_images_in_two_splits_are_told_on_the_first_screen(tmp_path):
    leak = {"path": "00000.png", "other": "00001.png", "kind": "leak", "problem": "also in train", "left_out": False}
    page = report_of(make_run(tmp_path / "run", findings=[leak]))
    first = page.one("section", id="headline")
    assert first.one("span", css="badge").attributes["class"] == "badge bad"
    assert "Don't trust the figure yet: 1 finding says" in first.text
    assert "never seen" not in first.text
    old = {"path": "00000.png", "problem": "identical to 00001.png, but in test while that is in train"}
    page = report_of(make_run(tmp_path / "old", findings=[old | {"left_out": False}]))
    assert "Don't trust the figure yet: 1 finding says" in page.one("section", id="headline").text


def test_no_figure_is_said_to_be_none(tmp_path):
    run = make_run(tmp_path / "run", SEVERAL)

    def forget(metrics):
        metrics["test"]["tasks"]["species"] = {
            "kind": "single_label", "n_labelled": 0, "accuracy": None, "accuracy_interval": None
        }  # fmt: skip

    edit(run, "metrics.json", forget)
    assert "How well can't be said: no image has a label for it." in report_of(run).text


def test_the_confusion_matrix_counts_the_predictions(tmp_path):
    run = make_run(tmp_path / "run", quality=0.4)
    folder = Folder(run)
    labels, said = folder.predicted.labels["label"], folder.predicted.outputs["label"].argmax(axis=1)
    table = report_of(run).one("table", css="confusion")
    for i, row in enumerate(table.one("tbody").all("tr")):
        assert row.values == [((labels == i) & (said == j)).sum() for j in range(3)]
    edit(run, "metrics.json", lambda m: m["test"]["tasks"]["label"].update(confusion=[[7, 0, 1], [0, 9, 2], [3, 0, 8]]))
    page = report_of(run)
    assert page.one("table", css="confusion").one("tbody").values == [7, 0, 1, 0, 9, 2, 3, 0, 8]
    assert [row[:3] for row in page.one("table", css="pairs").table()] == [
        ["wasp", "ant", "3"], ["bee", "wasp", "2"], ["ant", "wasp", "1"]
    ]  # fmt: skip


def test_the_surest_mistakes_come_first(tmp_path):
    run, task = make_run(tmp_path / "run", count=4), SINGLE["label"]
    outputs = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.02, 0.03, 0.95], [0.6, 0.3, 0.1]], np.float32)
    labels = {"label": np.array([0, 0, 0, -1])}
    write_predictions(run / "predictions_test.csv", {"label": task}, [f"0000{k}.png" for k in range(4)], labels,
                      {"label": outputs})  # fmt: skip
    cards = report_of(run).one("ol", css="mistakes").all("li")
    assert [card.one("span", css="path").text for card in cards] == ["00002.png", "00001.png"]
    assert "Said wasp (95.0 %), labelled ant (2.0 %)" in cards[0].text
    assert "Said bee (70.0 %), labelled ant (20.0 %)" in cards[1].text


def test_mistakes_of_labels_and_numbers(tmp_path):
    run = make_run(tmp_path / "run", {"marks": MULTI["label"], "size": NUMBER["label"]}, count=2)
    labels = {"marks": np.array([[1, 0, 0], [0, 1, 0]], np.int8), "size": np.array([10.0, 3.0])}
    outputs = {
        "marks": np.array([[0.2, 0.6, 0.1], [0.1, 0.9, 0.97]], np.float32),
        "size": np.array([[11.5], [9.25]], np.float32),
    }
    tasks = {"marks": MULTI["label"], "size": NUMBER["label"]}
    write_predictions(run / "predictions_test.csv", tasks, ["00000.png", "00001.png"], labels, outputs)
    marks, size = report_of(run).all("ol", css="mistakes")
    said = [card.one("span", css="path").parent.text for card in marks.all("li")]
    assert said[0].startswith("Saw blue (97.0 %), which the image is not labelled with")
    assert said[1].startswith("Missed red, which it gave 20.0 %")
    assert [card.values for card in size.all("li")] == [[9.25, 3.0], [11.5, 10.0]]


def test_folds_are_judged_by_their_own_predictions(tmp_path):
    run = make_run(tmp_path / "run", split="val", used_for=["epoch"])
    for k, quality in enumerate((0.3, 2.0)):
        make_run(run / "folds" / str(k), count=30, quality=quality)

    def headline(metrics):
        metrics["cv"] = metrics["val"] | {"folds": 2, "used_for": [], "n": 60}
        metrics["cv"]["tasks"]["label"].pop("confusion")
        metrics["primary"] = "cv.tasks.label.accuracy"

    edit(run, "metrics.json", headline)
    page = report_of(run)
    assert page.one("section", id="headline").one("span", css="badge").text == "Cross-validated"
    assert "one of 2 models" in page.one("section", id="headline").text
    assert sum(page.one("table", css="confusion").one("tbody").values) == 60
    assert [head.big for head in page.one("table", css="figures").one("thead").all("th")][1:] == [
        "cross-validation", "validation"
    ]  # fmt: skip


def test_mistakes_of_folds_are_explained_by_their_own_models(tmp_path):
    import keras
    from keras import layers

    from tlkit.models.assemble import assemble

    def read_model(path):
        image = keras.Input((32, 32, 3))
        end = layers.Conv2D(4, 3, activation="relu", kernel_initializer="ones", name="end")(image)
        head = layers.Dense(1, kernel_initializer="ones")
        return assemble(keras.Model(image, end), lambda x: head(layers.GlobalAveragePooling2D()(x)), Folder(path).tasks)

    run, notes = make_run(tmp_path / "run", NUMBER, split="val"), Notes()
    for k in range(2):
        make_run(run / "folds" / str(k), {"label": Task("regression", (), 9.0 + k, 4.0 + k)}, count=4)
    edit(run, "metrics.json", lambda m: m.update(cv=m["val"] | {"folds": 2}, primary="cv.tasks.label.mae"))
    cards = report_of(run, read_model=read_model, listener=notes).one("ol", css="mistakes").all("li")
    assert [len(card.all("img")) for card in cards] == [2] * 8
    assert notes.notes == []


def test_probabilities_views_and_sets_are_shown_where_they_are_known(tmp_path):
    page = report_of(make_run(tmp_path / "run", more={"tta": TTA, "calibration": CALIBRATION, "conformal": CONFORMAL}))
    labels = [svg.attributes["aria-label"] for svg in page.all("svg")]
    assert any("Before calibration, test. Expected calibration error 0.110" in label for label in labels)
    assert any("80% sure, 70% right" in label and "0.040" in label for label in labels)
    (row,) = page.one("section", id="tta").one("tbody").all("tr")
    assert [cell.big for cell in row.all("td")] == [
        "2", "accuracy", "95.0 %", "\u22121.2", "3", "4", "0.61"
    ]  # fmt: skip
    assert row.values[1:6] == [0.95, 0.9, 0.97, -0.0125, -0.03]
    assert "made less sure by one number, the temperature 1.370" in page.text
    assert (
        "include the right one for 90.0 % of images (conformal prediction). On 40 test images it did for 92.5 %"
        in page.text
    )


def test_what_was_not_calibrated_or_checked_is_said(tmp_path):
    figures = CALIBRATION["tasks"]["label"]["test"]
    entry = {"method": "none", "temperature": None, "kept": False, "reason": "only 3 images to fit on", "test": figures}
    unchecked = CONFORMAL["label"] | {"coverage": None, "coverage_interval": None, "mean_size": None, "n": 0}
    more = {"calibration": {"fitted_on": "val", "tasks": {"label": entry}}, "conformal": {"label": unchecked}}
    page = report_of(make_run(tmp_path / "run", more=more | {"tta": TTA | {"reason": "flip gains nothing"}}))
    assert "They stay as the training left them: only 3 images to fit on." in page.text
    assert "There are no test images to check it on" in page.text
    assert "flip gains nothing" in page.one("section", id="tta").text


def test_what_is_not_there_is_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("data.json", "environment.json", "timing.json", "selection.json", "history.csv", "splits.csv",
                 "predictions_test.csv"):  # fmt: skip
        (run / name).unlink()
    page = report_of(run)
    assert {section.attributes["id"] for section in page.all("section")} == {"headline", "task-0", "repeat"}
    assert "Test-time" not in page.text
    assert "calibrat" not in page.one("section", id="headline").text
    assert page.all("table", css="confusion")  # metrics.json has it
    assert page.one("h1").values


def test_a_run_without_metrics_has_no_report(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match=r"metrics\.json"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["{}", "{name}", "{{ 7 * 7 }}", "100 %s"])
def test_the_commonest_class_may_be_called_anything(tmp_path, name):
    task = Task("single_label", (name, "other"))
    run = make_run(tmp_path / "run", {"label": task})
    edit(run, "data.json", lambda data: data["class_counts"]["label"].update(train={name: 30, "other": 2}))
    assert f"Always answering {name}, the most common class in training" in report_of(run).text


NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "قطة", "{{ 7 * 7 }}", "ナ" * 80 + "x" * 200)


@pytest.mark.parametrize("kind", ["single_label", "multilabel"])
def test_names_are_text_whatever_they_hold(tmp_path, kind):
    finding = {"path": "<b>x</b>.png", "problem": "<i>odd</i>", "left_out": True}
    run = make_run(tmp_path / "<u>run", {"label": Task(kind, NASTY)}, findings=[finding], quality=0.3)
    page = report_of(run)
    assert len(page.all("script")) == 1
    assert not [img for img in page.all("img") if img.attributes.get("src") == "x"]
    assert not page.all("i", css=None)[len(page.all("div", css="bar")) :]
    names = [row[0] for row in page.one("table", css="per-class").table()]
    assert names == [" ".join(name.split()) for name in NASTY]
    assert "<i>odd</i>" in page.one("section", id="data").text


@pytest.mark.parametrize("tasks", KINDS.values(), ids=KINDS)
def test_the_page_is_complete_and_described(tmp_path, tasks):
    twin = {"path": "00000.png", "other": "00001.png", "kind": "duplicate", "problem": "the same", "left_out": False}
    more = {"tta": TTA, "calibration": CALIBRATION, "conformal": CONFORMAL}
    run = make_run(tmp_path / "run", tasks, findings=[twin], more=more)
    page = report_of(run)
    assert page.all("img")
    assert page.all("svg")
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert all(svg.attributes["aria-label"] and svg.attributes["role"] == "img" for svg in page.all("svg"))
    identities = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
    assert len(identities) == len(set(identities))
    text = (run / "report.html").read_text("utf-8")
    assert "http://" not in text
    assert "https://" not in text
    for element in page.all():
        for key in ("src", "href", "xlink:href"):
            target = element.attributes.get(key)
            assert target is None or target.startswith(("data:", "#")), target
            if target and target.startswith("#"):
                assert target[1:] in identities
    assert all(url.startswith("url(#") for url in re.findall(r"url\([^)]*", text))
    assert "#0303" not in text
    assert "#0101" not in text


def test_the_same_folder_gives_the_same_page(tmp_path):
    run = make_run(tmp_path / "run", SEVERAL)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_images_that_have_gone_or_changed_are_left_out_with_a_note(tmp_path):
    run, notes = make_run(tmp_path / "run", quality=0.2), Notes()
    (tmp_path / "images" / "00000.png").write_bytes((tmp_path / "images" / "00001.png").read_bytes())
    for image in list((tmp_path / "images").iterdir())[2:]:
        image.unlink()
    page = report_of(run, listener=notes)
    cards = page.one("ol", css="mistakes").all("li")
    assert len(cards) == 12
    assert not [card for card in cards if card.all("img") and "00000.png" in card.text]
    assert "could not be shown" in page.text
    assert notes.notes
    assert "could not be shown: gone, changed" in notes.notes[0]


def test_the_page_of_ten_thousand_images_stays_small(tmp_path):
    classes = tuple(f"class {k}" for k in range(10))
    finding = {"path": "00000.png", "other": "00001.png", "kind": "near_duplicate", "problem": "alike",
               "left_out": False}  # fmt: skip
    findings = [finding | {"kind": kind} for kind in ("leak", "near_duplicate", "outlier") for _ in range(3000)]
    run = make_run(tmp_path / "run", {"label": Task("single_label", classes)}, count=10_000, quality=0.5,
                   pictures=False, findings=findings)  # fmt: skip
    page = write_report(run)
    assert page.stat().st_size < 2_000_000
    assert "8,800 more" not in page.read_text("utf-8")
    assert "2,792" in page.read_text("utf-8")  # of each kind, beyond the 8 pictured and the 200 named


@pytest.mark.parametrize("count", [40, 1000])
def test_many_classes(tmp_path, count):
    task = Task("single_label", tuple(f"class {k}" for k in range(count)))
    run = make_run(tmp_path / "run", {"label": task}, count=2000, quality=1.0, pictures=False)
    page = report_of(run)
    assert not page.all("table", css="confusion")
    assert bool(page.all("img", css="matrix")) == (count == 40)
    assert len(page.one("table", css="pairs").table()) == 15
    assert len(page.one("table", css="per-class").table()) == count
    assert (run / "report.html").stat().st_size < 5_000_000


def test_the_command_that_repeats_a_run(tmp_path):
    run = make_run(tmp_path / "a run")
    expected = f"tlkit finetune --recipe '{run / 'recipe.toml'}' --data {tmp_path / 'images'}"
    assert repeat_command(Folder(run)) == expected
    assert expected in report_of(run).one("section", id="repeat").text
    edit(run, "data.json", lambda data: data.update(source="arrays"))
    assert repeat_command(Folder(run)) is None


def test_how_the_shipped_model_was_chosen_is_told(tmp_path):
    text = report_of(make_run(tmp_path / "run")).one("section", id="training").text
    assert "A linear probe, which learns nothing but the last layer, came first: validation loss 0.750." in text
    assert "image by image \u22120.250 ± 0.050 against the probe: clearly lower, so it was taken." in text
    assert "What ships is stage 0 after epoch 2: validation loss 0.500, validation accuracy 0.800." in text
