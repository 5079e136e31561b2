"""Runs compared from their folders: which images count, which classes, and what is said of them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from compared_runs import recipe, says, write_run, write_table

import tlkit
from tlkit.errors import RunError
from tlkit.evaluation.compare import mcnemar_p, paired_accuracy_interval
from tlkit.tasks import Task

TRUTH = np.array([0, 1, 2] * 10)


def answers(*wrong):
    """Return the truth, wrong where it is said."""
    given = TRUTH.copy()
    given[list(wrong)] = (given[list(wrong)] + 1) % 3
    return given


@pytest.fixture
def run(tmp_path):
    """Function that writes a run: `run(name, wrong, **settings)`, of the thirty images."""

    def write(name, wrong=(), **settings):
        return write_run(tmp_path / name, range(30), {"label": TRUTH}, {"label": says(answers(*wrong))}, **settings)

    return write


def test_runs_are_compared_with_the_first(run):
    comparison = tlkit.compare([run("a", range(8)), run("b", [0]), run("c", range(6, 15))])
    assert (comparison.split, comparison.n, comparison.used_for) == ("test", 30, [])
    assert sum(comparison.left_out.values()) == 0
    task = comparison.tasks["label"]
    assert (task.kind, task.metric, task.n, task.recipes) == ("single_label", "accuracy", 30, [])
    a, b, c = task.runs
    assert [row.run for row in task.runs] == ["a", "b", "c"]
    assert [row.value for row in task.runs] == [22 / 30, 29 / 30, 21 / 30]
    assert (a.difference, a.p, a.verdict) == (None, None, "")
    assert (b.difference.won, b.difference.lost) == (7, 0)
    assert b.difference.interval == paired_accuracy_interval(7, 0, 30)
    assert b.difference.p == mcnemar_p(7, 0) == pytest.approx(2 / 128)
    assert b.p == pytest.approx(2 * 2 / 128)  # the smaller of two
    assert b.verdict == "better: 7 of 30 more right, p = 0.031"
    assert (c.difference.won, c.difference.lost) == (6, 7)
    assert c.p == 1
    assert c.verdict == "not distinguishable: 13 images of 30 decide, 6 for and 7 against, p = 1.000"
    back = tlkit.compare([run("d", [0]), run("e", range(8))]).tasks["label"].runs[1]
    assert back.verdict == "worse: 7 of 30 fewer right, p = 0.016"
    json.dumps(comparison.as_dict(), allow_nan=False)


def test_images_are_matched_by_their_contents_and_classes_by_their_names(run, tmp_path):
    order = np.random.default_rng(0).permutation(30)
    shuffled = Task("single_label", ("owl", "cat", "dog"))
    name_to = np.array([1, 2, 0])  # cat, dog, owl in that order of classes
    other = write_run(
        tmp_path / "b",
        order,
        {"label": name_to[TRUTH][order]},
        {"label": says(name_to[answers(3, 4)])[order]},
        tasks={"label": shuffled},
    )
    a, b = tlkit.compare([run("a", [3, 20]), other]).tasks["label"].runs
    assert (a.value, b.value) == (28 / 30, 28 / 30)
    assert (b.difference.won, b.difference.lost) == (1, 1)


def test_only_what_all_held_out_counts(tmp_path):
    def write(name, images, others, wrong=()):
        images = list(images)
        return write_run(
            tmp_path / name, images, {"label": TRUTH[images]}, {"label": says(answers(*wrong)[images])}, others=others
        )

    first = write("a", range(20), {20: "train", 21: "val"}, wrong=[0, 10, 11, 12])
    other = write("b", range(10, 26), {0: "train", 1: "train", 2: "val", 3: "val"}, wrong=[11])
    comparison = tlkit.compare([first, other])
    assert comparison.n == 10
    # 0, 1 and 20 were trained on; 2, 3 and 21 are in a val split; 4 to 9 and 22 to 25 are known to one run alone
    assert comparison.left_out == {"trained_on": 3, "other_split": 3, "unknown": 10}
    a, b = comparison.tasks["label"].runs
    assert (a.value, b.value) == (7 / 10, 9 / 10)


def test_a_test_image_that_was_trained_on_as_well_is_no_test_image(run):
    comparison = tlkit.compare([run("a", [0]), run("b", [1], others={0: "train"})])
    assert comparison.n == 29
    assert comparison.left_out["trained_on"] == 1
    assert [row.value for row in comparison.tasks["label"].runs] == [1, 28 / 29]


def test_copies_of_an_image_count_each(tmp_path):
    images = [0, 1, 1, 1, 2]
    runs = [
        write_run(tmp_path / name, images, {"label": TRUTH[images]}, {"label": says([0, 1, answer, 1, 2])})
        for name, answer in (("a", 1), ("b", 2))
    ]
    comparison = tlkit.compare(runs)
    assert comparison.n == 5
    assert [row.value for row in comparison.tasks["label"].runs] == [1, 4 / 5]


def test_labels_that_differ_are_left_out(tmp_path):
    told = TRUTH.copy()
    told[[4, 5]] = (TRUTH[[4, 5]] + 1) % 3
    told[6] = -1
    labels = {"a": TRUTH, "b": told}
    runs = [write_run(tmp_path / name, range(30), {"label": labels[name]}, {"label": says(TRUTH)}) for name in labels]
    task = tlkit.compare(runs).tasks["label"]
    assert (task.n, task.labelled_otherwise) == (27, 2)
    assert [row.value for row in task.runs] == [1, 1]
    assert task.runs[1].verdict == "not distinguishable: right on the same images"


SEVERAL = {
    "cells": Task("multilabel", ("RBC", "WBC")),
    "count": Task("regression", mean=3.0, scale=2.0),
    "label": Task("single_label", ("cat", "dog", "owl")),
}


def several(noise, seed=0):
    """Return labels of three tasks, and what a model says of them that errs by so much."""
    random = np.random.default_rng(1)
    cells, count = random.integers(0, 2, (30, 2)), random.normal(3, 2, 30)
    cells[3], count[4] = -1, np.nan
    random = np.random.default_rng(seed)
    outputs = {
        "cells": np.clip(cells * 0.4 + 0.3 + noise * random.normal(size=(30, 2)), 0.01, 0.99),
        "count": (np.nan_to_num(count) + 4 * noise * random.normal(size=30))[:, None],
        "label": says(TRUTH),
    }
    return {"cells": cells, "count": count, "label": TRUTH}, outputs


def test_tasks_of_all_kinds(tmp_path):
    runs = []
    for name, noise in (("a", 0.8), ("b", 0.05)):
        labels, outputs = several(noise)
        runs.append(write_run(tmp_path / name, range(30), labels, outputs, tasks=SEVERAL))
    comparison = tlkit.compare(runs)
    cells, count, label = comparison.tasks.values()
    assert (cells.metric, cells.n, count.metric, count.n, label.n) == ("mean_average_precision", 29, "mae", 29, 30)
    for task in (cells, count):
        first, second = task.runs
        assert second.difference.first == pytest.approx(first.value)
        assert second.difference.second == pytest.approx(second.value)
        assert second.difference.gain > 0
        assert second.verdict.startswith("better: m")
    assert "mae" in count.runs[1].verdict
    assert "lower, p <" in count.runs[1].verdict
    assert "higher, p" in cells.runs[1].verdict
    back = tlkit.compare(runs[::-1]).tasks["count"].runs[1]
    assert back.verdict.startswith("worse: mae")
    assert "higher, p <" in back.verdict
    json.dumps(comparison.as_dict(), allow_nan=False)


def test_only_tasks_that_all_have_are_compared(tmp_path):
    labels, outputs = several(0.1)
    whole = write_run(tmp_path / "whole", range(30), labels, outputs, tasks=SEVERAL)
    alone = write_run(tmp_path / "alone", range(30), labels, outputs, tasks={"count": SEVERAL["count"]})
    assert list(tlkit.compare([whole, alone]).tasks) == ["count"]


def test_seeds_of_one_recipe_are_summarized_and_compared_as_groups(run):
    runs = [run(f"a{seed}", range(6 + seed), recipe=recipe(seed, loss="a")) for seed in range(3)]
    runs += [run(f"b{seed}", [seed], recipe=recipe(seed, loss="b")) for seed in range(2)]
    task = tlkit.compare(runs).tasks["label"]
    assert len(task.runs) == 5
    a, b = task.recipes
    assert (a.runs, a.seeds, a.values) == (["a0", "a1", "a2"], [0, 1, 2], [24 / 30, 23 / 30, 22 / 30])
    assert (a.mean, a.low, a.high) == (pytest.approx(23 / 30), 22 / 30, 24 / 30)
    assert (a.difference, a.verdict) == (None, "")
    assert (b.mean, b.low, b.high) == (29 / 30, 29 / 30, 29 / 30)
    assert b.difference.gain == pytest.approx(6 / 30)
    assert b.difference.interval[0] < 6 / 30 < b.difference.interval[1]
    assert b.p == b.difference.p < 0.05
    assert b.verdict.startswith("better: accuracy 0.2 higher, p = 0.0")


def test_one_recipe_alone_is_summarized(run):
    (group,) = (
        tlkit.compare([run("a", [0], recipe=recipe(0)), run("b", [1, 2], recipe=recipe(5))]).tasks["label"].recipes
    )
    assert (group.seeds, group.low, group.high, group.p) == ([0, 5], 28 / 30, 29 / 30, None)


def test_what_changes_no_prediction_makes_no_other_recipe(run):
    kept = [recipe(0, training={"cache": "disk", "ema": 0.0}), recipe(1, training={"cache": "ram", "ema": 0.0})]
    kept[1]["evaluation"] = {"tta": "none", "conformal": 0.1}
    kept[0]["evaluation"] = {"tta": "flip", "conformal": 0.0}
    (group,) = tlkit.compare([run("a", recipe=kept[0]), run("b", recipe=kept[1])]).tasks["label"].recipes
    assert group.seeds == [0, 1]


def test_runs_that_differ_in_more_than_seeds_are_no_group(run):
    runs = [run("a", recipe=recipe(0)), run("b", recipe=recipe(1, loss="b"))]
    assert tlkit.compare(runs).tasks["label"].recipes == []
    again = run("c", recipe=recipe(0))
    assert tlkit.compare([runs[0], again]).tasks["label"].recipes == []  # the same seed twice is no second sample
    other_data = run("d", recipe=recipe(7), others={99: "train"})
    assert tlkit.compare([runs[0], other_data]).tasks["label"].recipes == []


def test_folds_are_compared_on_all_images(tmp_path):
    def write(name, wrong, parts):
        folder = write_run(tmp_path / name, [], {"label": []}, {"label": np.zeros((0, 3))}, split="val")
        of_folds = {"used_for": [], "folds": len(parts)}
        metrics = {"primary": "cv.tasks.label.accuracy", "cv": of_folds, "val": {"used_for": ["epoch"]}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        for number, images in enumerate(parts):
            others = dict.fromkeys(set(range(30)) - set(images), "train")
            labels, outputs = {"label": TRUTH[images]}, {"label": says(answers(*wrong)[images])}
            write_run(folder / "folds" / str(number), images, labels, outputs, others=others)
        return folder

    halves = [range(15), range(15, 30)]
    thirds = [range(start, 30, 3) for start in range(3)]
    a, b = write("a", [0, 1], [list(part) for part in halves]), write("b", [1, 2, 29], [list(part) for part in thirds])
    comparison = tlkit.compare([a, b])
    assert (comparison.split, comparison.n, sum(comparison.left_out.values())) == ("cv", 30, 0)
    first, second = comparison.tasks["label"].runs
    assert (first.value, second.value) == (28 / 30, 27 / 30)
    assert (second.difference.won, second.difference.lost) == (1, 2)
    with pytest.raises(RunError, match=r"a: the run has no figures of test\. It has: val, cv"):
        tlkit.compare([a, b], split="test")
    shutil.rmtree(b / "folds" / "2")
    with pytest.raises(RunError, match=r"folds/2/splits\.csv: expected the file"):
        tlkit.compare([a, b])


def test_a_split_that_chose_something_says_so(run):
    used = {"split": "val", "used_for": ["epoch"]}
    comparison = tlkit.compare([run("a", **used), run("b", **used)])
    assert (comparison.split, comparison.used_for) == ("val", ["epoch"])


def test_what_was_trained_on_is_left_out_and_no_caveat(run):
    comparison = tlkit.compare([run("a", others={0: "train"}, used_for=["training"]), run("b")])
    assert (comparison.n, comparison.used_for) == (29, [])


def test_names_are_as_short_as_they_can_be(run):
    comparison = tlkit.compare([run("one/0"), run("two/0")])
    assert list(comparison.paths) == ["one/0", "two/0"]
    assert comparison.paths["two/0"].endswith("two/0")


def test_runs_that_have_nothing_in_common_are_one_clear_error(run, tmp_path):
    first = run("a")
    with pytest.raises(RunError, match="at least two runs"):
        tlkit.compare([first])
    with pytest.raises(RunError, match="the same folder twice"):
        tlkit.compare([first, tmp_path / "." / "a"])
    with pytest.raises(RunError, match="no such run folder"):
        tlkit.compare([first, tmp_path / "gone"])
    labels, outputs = several(0.1)
    other = write_run(tmp_path / "b", range(30), labels, outputs, tasks={"count": SEVERAL["count"]})
    with pytest.raises(RunError, match=r"expected runs that share a task\. Received: .*a: label; .*b: count"):
        tlkit.compare([first, other])
    birds = {"label": Task("single_label", ("cat", "emu", "owl"))}
    other = write_run(tmp_path / "c", range(30), {"label": TRUTH}, {"label": says(TRUTH)}, tasks=birds)
    with pytest.raises(RunError, match=r"c: its label has other classes than .*a: it has emu; it lacks dog"):
        tlkit.compare([first, other])
    numbers = {"label": Task("regression")}
    other = write_run(tmp_path / "d", range(30), {"label": TRUTH * 1.0}, {"label": TRUTH[:, None]}, tasks=numbers)
    with pytest.raises(RunError, match=r"d: label is regression, but in .*a it is single_label"):
        tlkit.compare([first, other])
    other = write_run(tmp_path / "e", range(50, 80), {"label": TRUTH}, {"label": says(TRUTH)})
    with pytest.raises(RunError, match=r"no held-out image in common .*60 unknown to one"):
        tlkit.compare([first, other])
    with pytest.raises(RunError, match=r"different splits: test \(.*a\), val \(.*f\)\. Choose one with --split"):
        tlkit.compare([first, run("f", split="val")])
    with pytest.raises(RunError, match="expected a split of test, val, cv"):
        tlkit.compare([first, other], split="train")


def test_predictions_without_a_split_are_refused(run):
    first, second = run("a"), run("b")
    write_table(second / "splits.csv", ("path", "split", "sha256"), [("x.png", "test", "1")])
    with pytest.raises(RunError, match=r"b/0-0\.png is predicted but isn't in splits\.csv"):
        tlkit.compare([first, second])


def test_no_engine_is_needed(run):
    lines = [
        "import sys, tlkit",
        f"tlkit.compare([{str(run('a'))!r}, {str(run('b'))!r}])",
        "loaded = {'tensorflow', 'keras', 'cv2', 'albumentations', 'sklearn', 'matplotlib'} & set(sys.modules)",
        "assert not loaded, loaded",
    ]
    answer = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
