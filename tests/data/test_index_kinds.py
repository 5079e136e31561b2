"""Data with tasks of several kinds and missing labels, from the source to the index; what never changes beside them."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tlkit.data.index import fold_splits, load, with_split
from tlkit.errors import DataError

KINDS = {"cells": "multilabel", "count": "regression"}


@pytest.fixture
def folder(tmp_path):
    """Ten different pictures of each of two classes."""
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(np.full((8, 8, 3), 10 * number + i, np.uint8)).save(tmp_path / name / f"{i:02}.png")
    return tmp_path


@pytest.fixture
def table(folder):
    """A CSV of 20 images: labels of two kinds, some missing, and two images without any."""
    rows = ["path,cells,count"]
    for i, name in enumerate(f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(10)):
        cells = ("RBC", "RBC WBC", "-", "WBC", "")[i % 5]
        rows.append(f"{name},{cells},{'' if i % 10 in (0, 4) else i / 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


def test_csv_with_missing_labels_of_several_kinds(table):
    data = load(table, tasks=KINDS)
    assert data.findings == [
        {"path": path, "problem": "no label", "left_out": True} for path in ("ant/04.png", "bee/04.png")
    ]
    assert len(data) == 18
    assert data.tasks["cells"].classes == ("RBC", "WBC")
    assert data.labels["cells"].dtype == np.int8
    assert data.labels["cells"][data.paths.index("ant/01.png")].tolist() == [1, 1]
    assert data.labels["cells"][data.paths.index("ant/02.png")].tolist() == [0, 0]
    assert data.labels["cells"][data.paths.index("ant/09.png")].tolist() == [-1, -1]
    assert data.labels["count"][data.paths.index("bee/03.png")] == 6.5
    assert np.isnan(data.labels["count"][data.paths.index("ant/00.png")])
    assert load(table, tasks=KINDS).fingerprint == data.fingerprint


def test_a_label_that_was_missing_changes_the_fingerprint(table):
    data = load(table, tasks=KINDS)
    table.write_text(table.read_text().replace("ant/00.png,RBC,\n", "ant/00.png,RBC,0\n"))
    assert with_split(load(table, tasks=KINDS), data.split).fingerprint != data.fingerprint


def test_an_empty_label_leaves_the_image_out(folder):
    rows = [f"{name}/{i:02}.png,{name if i else ''}" for name in ("ant", "bee") for i in range(10)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows, "ant/00x.png"]))
    shutil.copyfile(folder / "ant" / "00.png", folder / "ant" / "00x.png")
    data = load(folder / "labels.csv", tasks={"label": "auto"})
    assert data.tasks["label"].kind == "single_label"
    assert [finding["path"] for finding in data.findings] == ["ant/00.png", "bee/00.png", "ant/00x.png"]
    assert len(data) == 18
    assert (data.labels["label"] >= 0).all()


def test_numbers_are_scaled_by_the_training_images_of_each_split(table):
    data = load(table, tasks=KINDS)
    for changed in (data, *(with_split(data, split) for split in fold_splits(data, 3, seed=0))):
        of_train = [value for value in changed.labels["count"][changed.indices("train")] if value == value]
        assert changed.tasks["count"].mean == pytest.approx(np.mean(of_train))
        assert changed.tasks["count"].scale == pytest.approx(np.std(of_train))
        assert changed.tasks["cells"] == data.tasks["cells"]


def test_folds_without_an_example_are_refused(table):
    data = load(table, tasks=KINDS)
    labels = data.labels["cells"].copy()
    labels[:, 1] = 0
    labels[0, 1] = 1  # a single one: it is tested in one fold, and missing from its training images
    with pytest.raises(DataError, match="label 'WBC' of `cells` has no training images"):
        fold_splits(replace(data, labels=data.labels | {"cells": labels}), 3, seed=0)


def test_identical_images_that_are_labelled_differently_are_named_for_all_kinds(table):
    for name in ("01", "02", "04"):
        shutil.copyfile(table.parent / "ant" / "03.png", table.parent / "ant" / f"{name}.png")
    table.write_text(table.read_text().replace("ant/04.png,,\n", "ant/04.png,,0.5\n"))
    problems = {finding["path"]: [] for finding in load(table, tasks=KINDS).findings}
    for finding in load(table, tasks=KINDS).findings:
        problems[finding["path"]].append(finding["problem"])
    assert problems["ant/02.png"] == [
        "identical to ant/01.png, but labelled '-' while that is 'RBC|WBC'",
        "identical to ant/01.png, but labelled '1' while that is '0.5'",
    ]
    assert "ant/04.png" not in problems  # its cells are missing, and its count is the same


def test_arrays_of_several_tasks():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1)
    labels = {
        "kind": ["a", "b"] * 20,
        "marks": np.where(np.arange(40)[:, None] == 7, -1, np.arange(40)[:, None] % [2, 3] == 0).astype(int),
        "age": np.where(np.arange(40) == 9, np.nan, np.arange(40.0)),
    }
    kinds = {"kind": "auto", "marks": "multilabel", "age": "regression"}
    data = load((images, labels), tasks=kinds)
    assert {name: task.kind for name, task in data.tasks.items()} == kinds | {"kind": "single_label"}
    assert data.tasks["marks"].classes == ("0", "1")
    assert data.labels["marks"][6].tolist() == [1, 1]
    assert data.labels["marks"][7].tolist() == [-1, -1]
    assert np.array_equal(data.labels["age"], labels["age"], equal_nan=True)
    only_numbers = load((images, labels["age"]), tasks={"label": "regression"})
    assert len(only_numbers) == 39
    assert only_numbers.images.shape == (39, 1, 1)
    assert only_numbers.paths[9] == "10"
    assert only_numbers.read(9)[0, 0, 0] == 10
    parts = load(
        ((images[:30], labels["marks"][:30]), (images[30:], labels["marks"][30:])), tasks={"label": "multilabel"}
    )
    assert parts.counts()["test"] == 10
    assert len(parts) == 39


def test_the_fingerprint_of_single_labels_is_what_it_always_was():
    """Runs name their data by it: the formula must not change under them."""
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1)
    data = load((images, np.arange(12) % 2))
    digest = hashlib.sha256()
    for i in range(12):
        content = hashlib.sha256(b"(1, 1)" + bytes([i])).hexdigest()
        digest.update(f'["{i:02}", "{content}", {{"label": {i % 2}}}, "{data.split[i]}"]\n'.encode())
    assert data.fingerprint == digest.hexdigest()


def test_real_splits_are_what_they_always_were(shared_data):
    """Recorded before there were other kinds of labels: measurements in recipes were made on these very splits."""
    data = load(shared_data / "clothing")
    assert data.fingerprint == "40cdade72582bbde08e506f757691f71b2028921662dca33ae2a5357b7a87842"
    first = with_split(data, fold_splits(data, 5, seed=0)[0])
    assert first.fingerprint == "54eb44b3785ebe34b37e0a03672da52c4bbbbbf54973b3df7be9d125c15790f5"


def test_real_tasks_of_two_kinds(shared_data):
    csv = shared_data / "bccd" / "labels.csv"
    data = load(csv, tasks={"cells": "multilabel", "rbc_count": "regression"})
    assert data.counts() == {"train": 205, "val": 87, "test": 72}
    assert data.tasks["cells"].classes == ("Platelets", "RBC", "WBC")
    assert (data.labels["cells"].sum(axis=0) == [201, 349, 358]).all()  # grep -c of each word
    assert data.tasks["rbc_count"].mean == pytest.approx(2382 / 205)
    for column, kind in (("cells", "multilabel"), ("rbc_count", "regression")):
        with pytest.raises(DataError, match=f"'{column}' is ambiguous.*--task {column}={kind}"):
            load(csv, tasks={column: "auto"})


def test_a_label_that_all_training_images_have_is_worth_a_look_and_no_more(tmp_path, photo_folder):
    photo_folder(tmp_path / "photos", per_class=6)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "photos").rglob("*.*"))
    rows = [f"{name},{'x y' if number % 2 else 'x'}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,parts", *rows]))
    data = load(tmp_path / "labels.csv", tasks={"parts": "multilabel"})
    problems = [finding for finding in data.findings if "'x' is on all labelled training images" in finding["problem"]]
    assert [(finding["path"], finding["left_out"]) for finding in problems] == [("parts", False)]
