"""The audit: each fault is planted into photos of its own, and must be found; nothing else may be."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFilter

import tlkit
from tlkit.data.checks import Verdict
from tlkit.data.index import Data
from tlkit.errors import DataError, RecipeError
from tlkit.evaluation.audit import KINDS
from tlkit.evaluation.cleaning import clean
from tlkit.evaluation.duplicates import Copy, copy_groups
from tlkit.evaluation.registration import same_scene, see
from tlkit.tasks import Task

SPLIT_OF = ("train", "train", "val", "test")


def picture(seed, size=160, hue=0):
    """A picture with coarse shapes and details, different for every seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
    fine = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
    mixed = np.array(Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(2)), 0.5)).astype(int)
    mixed[..., hue] += 60
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Sixteen different pictures of each of two classes, in given splits, as PNG."""
    for number, name in enumerate(("ant", "bee")):
        for i in range(16):
            path = tmp_path / "data" / SPLIT_OF[i % 4] / name / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(100 * number + i, hue=number).save(path)
    return tmp_path / "data"


def kinds_of(found, path):
    return {finding["kind"] for finding in found.findings if path in (finding["path"], finding.get("other"))}


def test_a_sound_folder_has_no_findings(folder):
    found = tlkit.audit(folder, quick=True)
    assert found.findings == []
    assert found.copies == []
    assert found.not_checked == {"label_error": "--quick: needs a model", "outlier": "--quick: needs a model"}


def test_copies_within_and_across_splits(folder):
    (folder / "test/ant/same.png").write_bytes((folder / "train/ant/00.png").read_bytes())
    picture(1).save(folder / "val/ant/anew.jpg", quality=50)
    picture(4).resize((110, 110), Image.LANCZOS).save(folder / "test/ant/small.jpg")
    picture(5).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "test/ant/mirrored.png")
    picture(8).transpose(Image.Transpose.ROTATE_90).save(folder / "train/ant/turned.png")
    picture(9).convert("L").save(folder / "train/ant/grey.png")
    (folder / "train/bee/again.png").write_bytes((folder / "train/bee/01.png").read_bytes())
    found = tlkit.audit(folder, quick=True)
    relations = {}
    for copy in found.copies:
        relations[tuple(found.data.paths[i].split("/")[-1] for i in copy[:2])] = copy.relation
    assert {frozenset(pair): relation for pair, relation in relations.items()} == {
        frozenset(("same.png", "00.png")): "identical",
        frozenset(("anew.jpg", "01.png")): "saved",
        frozenset(("small.jpg", "04.png")): "saved",
        frozenset(("mirrored.png", "05.png")): "mirrored",
        frozenset(("turned.png", "08.png")): "turned",
        frozenset(("grey.png", "09.png")): "recoloured",
        frozenset(("again.png", "01.png")): "identical",
    }
    assert found.counts() == {"leak": 4, "near_duplicate": 2, "duplicate": 1}
    assert kinds_of(found, "test/ant/same.png") == {"leak"}
    assert kinds_of(found, "train/ant/turned.png") == {"near_duplicate"}
    assert kinds_of(found, "train/bee/again.png") == {"duplicate"}
    assert [finding["kind"] for finding in found.findings][:4] == ["leak"] * 4


def test_one_picture_with_two_labels_but_a_mirrored_one_may_have_another(folder):
    picture(0).save(folder / "train/bee/wrong.jpg", quality=80)
    picture(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "train/bee/other way.png")
    found = tlkit.audit(folder, quick=True)
    (conflict,) = [finding for finding in found.findings if finding["kind"] == "conflicting_label"]
    assert conflict["path"] == "train/bee/wrong.jpg"
    assert conflict["other"] == "train/ant/00.png"
    assert kinds_of(found, "train/bee/other way.png") == {"near_duplicate"}


def test_files_that_are_odd(folder):
    picture(300).save(folder / "train/ant/really.jpg", format="PNG")
    picture(301).resize((40, 30)).save(folder / "train/ant/tiny.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(302).save(folder / "train/bee/turned.jpg", exif=exif)
    (folder / "train/bee/broken.png").write_bytes(b"")
    found = tlkit.audit(folder, quick=True)
    assert found.counts() == {"unreadable": 1, "tiny": 1, "orientation": 1, "extension": 1}
    by_kind = {finding["kind"]: finding for finding in found.findings}
    assert by_kind["extension"]["path"] == "train/ant/really.jpg"
    assert by_kind["extension"]["problem"] == "the name ends in .jpg, but the file is PNG"
    assert by_kind["tiny"]["problem"] == "tiny: 40 x 30 pixels"
    assert "EXIF orientation 6" in by_kind["orientation"]["problem"]
    assert by_kind["unreadable"]["left_out"]


def test_rare_classes_and_sets_of_small_pictures(tmp_path):
    for name, count, seed in (("few", 3, 0), ("many", 44, 100)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture(seed + i, size=32).save(tmp_path / name / f"{i}.png")
    found = tlkit.audit(tmp_path, quick=True)
    assert found.counts() == {"imbalance": 1, "tiny": 1}
    assert "class 'few' has 1 training images, 'many' 31" in found.findings[0]["problem"]
    assert "47 of 47 images" in found.findings[1]["problem"]


def test_digits_are_not_taken_for_copies():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images[:600] * 15.9375).astype(np.uint8)
    found = tlkit.audit((images, digits.target[:600]), quick=True)
    assert found.copies == []
    assert set(found.counts()) <= {"tiny"}


def test_arrays_and_their_copies(tmp_path):
    images = np.stack([np.array(picture(i)) for i in range(40)])
    images[39] = images[0][:, ::-1]
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(40) % 2)
    found = tlkit.audit(tmp_path / "set.npz", quick=True)
    assert [copy[:3] for copy in found.copies] == [(0, 39, "mirrored")]
    with pytest.raises(DataError, match="the images are arrays"):
        found.clean(tmp_path / "clean.csv")


def test_the_cleaned_list_can_be_trained_on_and_is_clean(folder, tmp_path):
    (folder / "test/ant/same.png").write_bytes((folder / "train/ant/00.png").read_bytes())
    picture(1, size=80).save(folder / "train/ant/small.jpg")
    picture(101, hue=1).save(folder / "train/ant/contradicts.jpg", quality=90)
    files = {path: path.read_bytes() for path in folder.rglob("*.*")}
    found = tlkit.audit(folder, quick=True)
    left_out = found.clean(tmp_path / "lists.csv")
    assert left_out == {
        "train/ant/00.png": "a copy of test/ant/same.png",
        "train/ant/contradicts.jpg": "one picture with two labels",
        "train/bee/01.png": "one picture with two labels",
        "train/ant/small.jpg": "a copy of train/ant/01.png",
    }
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == files
    with (tmp_path / "lists.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "split", "label"]
    assert len(rows) == 35 - 4
    assert {row["path"] for row in rows if "same" in row["path"]} == {"data/test/ant/same.png"}
    again = tlkit.audit(tmp_path / "lists.csv", quick=True)
    assert again.data.splits_given
    assert again.findings == []
    with pytest.raises(DataError, match="exists already, and nothing is overwritten"):
        found.clean(tmp_path / "lists.csv")


def test_the_cleaned_list_keeps_groups_and_several_tasks(tmp_path):
    for i in range(24):
        picture(i).save(tmp_path / f"{i:02}_{i // 2}.png")
    picture(3).save(tmp_path / "24_1.jpg")
    rows = ["path,cells,count"]
    for i, path in enumerate(sorted(tmp_path.glob("*_*"))):
        rows.append(f"{path.name},{('RBC', 'RBC WBC', '-')[i % 3]},{i / 4}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    tasks = {"cells": "multilabel", "count": "regression"}
    found = tlkit.audit(tmp_path / "labels.csv", tasks=tasks, group_by=r"_(\d+)", quick=True)
    assert found.counts() == {"conflicting_label": 1}  # another count
    found.clean(tmp_path / "clean.csv")
    again = tlkit.load_data(tmp_path / "clean.csv", tasks=tasks)
    assert len(again) == 23
    assert (again.split == [found.data.split[found.data.paths.index(path)] for path in again.paths]).all()
    assert len(set(again.groups)) == 12
    kept = [found.data.paths.index(path) for path in again.paths]
    assert (again.labels["cells"] == found.data.labels["cells"][kept]).all()
    assert (again.labels["count"] == found.data.labels["count"][kept]).all()


def test_of_copies_that_with_most_labels_stays_and_another_label_is_no_copy():
    facts = [Verdict("", side, side, None) for side in (10, 20, 10, 10)]
    tasks = {"one": Task("single_label", ("left", "right")), "two": Task("single_label", ("x", "y"))}
    labels = {"one": np.array([0, -1, 0, 1]), "two": np.array([1, 1, -1, -1])}
    data = Data("", None, tuple("abcd"), None, tasks, labels, np.array(["train"] * 4), False, (), tuple("abcd"))
    tied = [Copy(0, 1, "saved", 1.0), Copy(0, 2, "saved", 1.0), Copy(1, 3, "mirrored", 1.0), Copy(0, 3, "mirrored", 1)]
    assert clean(data, tied, facts) == {1: "a copy of a", 2: "a copy of a"}  # d is mirrored and points the other way


def test_the_cleaned_list_may_lie_in_a_linked_folder(folder, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    tlkit.audit(folder, quick=True).clean(tmp_path / "link" / "clean.csv")
    assert len(tlkit.load_data(tmp_path / "link" / "clean.csv")) == 32


def test_copies_of_copies_are_one_group():
    copies = [Copy(0, 3, "saved", 1.0), Copy(3, 5, "mirrored", 1.0), Copy(1, 2, "identical", 1.0)]
    assert copy_groups(6, copies).tolist() == [0, 1, 1, 0, 4, 0]


@pytest.mark.parametrize("change", ["cropped", "turned a little", "mirrored and cropped", "darker"])
def test_pictures_that_overlap_are_the_same_scene(change):
    whole = picture(1, size=256)
    if "mirrored" in change:
        whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "cropped" in change:
        whole = whole.crop((20, 50, 210, 240))
    if "turned" in change:
        whole = whole.rotate(12, Image.BICUBIC)
    if change == "darker":
        whole = whole.point(lambda value: value // 2)
    changed = see(np.array(whole))
    assert same_scene(see(np.array(picture(1, size=256))), changed) > 0.75
    assert same_scene(see(np.array(picture(2, size=256))), changed) is None


def test_small_and_flat_pictures_are_no_scene():
    assert see(np.array(picture(1, size=40))) is None
    assert see(np.full((100, 100, 3), 9, np.uint8)) is None
    assert same_scene(None, see(np.array(picture(1, size=256)))) is None


def test_without_a_model_tensorflow_is_not_loaded(folder):
    code = f"import sys, tlkit; tlkit.audit({str(folder)!r}, quick=True); print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "False", answer.stderr


def test_an_unknown_backbone_is_refused_before_the_work(folder):
    with pytest.raises(RecipeError, match="must be a known backbone"):
        tlkit.audit(folder, backbone="resnet5")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The audit, with a model, of two classes with a label exchanged, a cropped copy and a stranger planted."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    for number, name in enumerate(("blue", "red")):
        (folder / name).mkdir(parents=True)
        for i in range(24):
            smooth = picture(100 * number + i, hue=2 - 2 * number).filter(ImageFilter.GaussianBlur(4 * number))
            smooth.save(folder / name / f"{i:02}.png")
    (folder / "red" / "00.png").rename(folder / "blue" / "exchanged.png")
    picture(7, hue=2).crop((15, 5, 150, 140)).save(folder / "blue" / "cropped.png")
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = 255
    Image.fromarray(stripes).save(folder / "red" / "stripes.png")
    return tlkit.audit(folder)


def test_features_find_label_errors_outliers_and_cropped_copies(audited):
    assert audited.backbone == "efficientnet_lite0"
    assert audited.not_checked == {}
    (error,) = [finding for finding in audited.findings if finding["kind"] == "label_error"]
    assert error["path"] == "blue/exchanged.png"
    assert error["problem"] == "labelled 'blue', but looks like 'red'"
    outliers = [finding for finding in audited.findings if finding["kind"] == "outlier"]
    assert outliers[0]["path"] == "red/stripes.png"
    assert len(outliers) <= 2
    assert [copy.relation for copy in audited.copies] == ["scene"]
    assert {audited.data.paths[i] for i in audited.copies[0][:2]} == {"blue/07.png", "blue/cropped.png"}


def test_label_errors_leave_the_cleaned_list_only_on_request(audited, tmp_path):
    assert "blue/exchanged.png" not in audited.clean(tmp_path / "a.csv")
    left_out = audited.clean(tmp_path / "b.csv", drop=("label_error",))
    assert left_out["blue/exchanged.png"] == "label_error"
    with pytest.raises(DataError, match="--drop: expected one of"):
        audited.clean(tmp_path / "c.csv", drop=("label_errors",))


def test_the_findings_are_as_the_contract_says(audited):
    document = json.loads(json.dumps(audited.describe()))
    assert {"source", "fingerprint", "counts", "class_counts", "findings", "audit"} <= document.keys()
    assert document["audit"]["counts"] == audited.counts()
    for finding in document["findings"]:
        assert (
            {"path", "problem", "left_out"}
            <= finding.keys()
            <= {"path", "problem", "left_out", "kind", "other", "score"}
        )
        assert finding["kind"] in KINDS


def test_a_second_audit_takes_the_features_from_the_store(audited, monkeypatch):
    from tlkit.progress import Listener

    told = []
    listener = Listener()
    listener.features_computed = lambda *counts: told.append(counts)
    again = tlkit.audit(audited.data, listener=listener)
    assert told == []
    assert again.findings == audited.findings
