import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tlkit.data.index import fold_splits, load, split_for_deployment, with_split
from tlkit.errors import DataError

HEAVY = ("tensorflow", "keras", "cv2", "albumentations", "sklearn", "PIL")


def paint(path, seed):
    """Write a picture that differs from every other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def paint_folder(root, classes, per_class, first_seed=0):
    for c, name in enumerate(classes):
        for i in range(per_class):
            paint(root / name / f"{i:02}.png", first_seed + 100 * c + i)
    return root


@pytest.fixture
def folder(tmp_path):
    return paint_folder(tmp_path / "animals", ("ant", "bee"), 10)


def test_the_index_is_light():
    code = f"import sys, tlkit.data.index; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_of_classes(folder):
    data = load(folder)
    assert data.tasks["label"].classes == ("ant", "bee")
    assert data.paths[:2] == ("ant/00.png", "ant/01.png")
    assert data.labels["label"].dtype == np.int32
    assert data.labels["label"].tolist() == [0] * 10 + [1] * 10
    assert data.counts() == {"train": 14, "val": 3, "test": 3}
    assert not data.splits_given
    assert data.findings == []
    assert len(set(data.sha256)) == len(data) == 20
    train = data.indices("train")
    assert train.dtype == np.int64
    assert (np.diff(train) > 0).all()
    expected = np.asarray(Image.open(folder / data.paths[3]))
    assert np.array_equal(data.read(3), expected)


def test_the_split_is_a_function_of_data_and_seed(folder, tmp_path):
    data = load(folder)
    copy = tmp_path / "elsewhere"
    for path in reversed(data.paths):  # another order of creation
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, copy / path)
    again = load(copy)
    assert again.fingerprint == data.fingerprint
    assert load(folder, seed=1).fingerprint != data.fingerprint
    paint(copy / "ant" / "00.png", 9999)
    assert load(copy).fingerprint != data.fingerprint


def test_given_splits_are_kept(tmp_path):
    root = tmp_path / "data"
    for s, split in enumerate(("train", "valid", "test")):
        paint_folder(root / split, ("ant", "bee"), 4, first_seed=1000 * s)
    data = load(root)
    assert data.splits_given
    assert data.counts() == {"train": 8, "val": 8, "test": 8}
    assert all(path.split("/")[0][:3] == split[:3] for path, split in zip(data.paths, data.split, strict=True))


def test_val_is_carved_out_of_train_when_only_test_is_given(tmp_path):
    paint_folder(tmp_path / "Train", ("ant", "bee"), 20)
    paint_folder(tmp_path / "Test", ("ant", "bee"), 5, first_seed=5000)
    data = load(tmp_path)
    assert data.splits_given
    assert data.counts() == {"train": 34, "val": 6, "test": 10}
    assert {data.paths[i].split("/")[0] for i in data.indices("val")} == {"Train"}


def test_train_and_val_alone_stay_as_they_are(tmp_path):
    paint_folder(tmp_path / "train", ("ant", "bee"), 4)
    paint_folder(tmp_path / "validation", ("ant", "bee"), 4, first_seed=5000)
    assert load(tmp_path).counts() == {"train": 8, "val": 8}


def test_a_class_may_be_called_train(tmp_path):
    data = load(paint_folder(tmp_path, ("bus", "train"), 4))
    assert data.tasks["label"].classes == ("bus", "train")


def test_identical_files_never_straddle_our_splits(tmp_path):
    root = paint_folder(tmp_path / "data", ("ant", "bee"), 30)
    for i in range(15):
        shutil.copyfile(root / "ant" / f"{i:02}.png", root / "ant" / f"{i:02} copy.png")
    for seed in range(5):
        data = load(root, seed=seed)
        split_of = {}
        for content, split in zip(data.sha256, data.split, strict=True):
            assert split_of.setdefault(content, split) == split
        assert data.findings == []


def test_identical_files_in_given_splits_are_reported(tmp_path):
    for split in ("train", "test"):
        paint_folder(tmp_path / split, ("ant", "bee"), 4, first_seed=len(split) * 1000)
    shutil.copyfile(tmp_path / "train/ant/00.png", tmp_path / "test/bee/new.png")
    data = load(tmp_path)
    problems = [finding["problem"] for finding in data.findings if "test/bee/new.png" in str(finding)]
    assert len(problems) == 2
    assert "identical to" in problems[0]
    assert any("labelled" in problem for problem in problems)
    assert len(data) == 17


def test_group_by_keeps_groups_whole(tmp_path):
    for c, name in enumerate(("ant", "bee")):
        for i in range(30):
            paint(tmp_path / name / f"patient{i // 3:02}_{i}.png", 100 * c + i)
    for seed in range(3):
        data = load(tmp_path, group_by=r"(patient\d+)_", seed=seed)
        split_of = {}
        for path, split in zip(data.paths, data.split, strict=True):
            key = path.split("/")[1].split("_")[0]  # the same patient in both classes
            assert split_of.setdefault(key, split) == split


def test_unusable_files_are_named_and_left_out(folder):
    (folder / "ant" / "empty.jpg").touch()
    (folder / "ant" / "page.jpg").write_text("<html>not found</html>")
    (folder / "bee" / "half.png").write_bytes((folder / "bee" / "00.png").read_bytes()[:90])
    (folder / "bee" / "phone.heic").write_bytes(b"....")
    (folder / "bee" / "gone.png").symlink_to("nowhere.png")
    (folder / "stray.jpg").write_bytes((folder / "bee" / "00.png").read_bytes())
    (folder / "empty class").mkdir()
    data = load(folder)
    problems = {finding["path"]: finding["problem"] for finding in data.findings}
    assert len(data) == 20
    assert problems.keys() == {
        "ant/empty.jpg",
        "ant/page.jpg",
        "bee/half.png",
        "bee/phone.heic",
        "bee/gone.png",
        ".",
        "empty class",
    }
    assert "empty" in problems["ant/empty.jpg"]
    assert "truncated" in problems["bee/half.png"]
    assert "HEIC" in problems["bee/phone.heic"]


def test_what_is_no_image_is_ignored(folder):
    for name in (".DS_Store", "Thumbs.db", "notes.txt", ".hidden.jpg", "._00.png"):
        (folder / "ant" / name).write_bytes(b"x")
    paint(folder / ".cache" / "x.png", 1)
    paint(folder / "ant" / ".thumbnails" / "x.png", 1)
    data = load(folder)
    assert len(data) == 20
    assert data.findings == []


def test_links_spaces_and_foreign_names_work(folder, tmp_path):
    paint_folder(tmp_path / "far", ("x",), 4, first_seed=7000)
    (folder / "chèvre naïve 山羊").symlink_to(tmp_path / "far" / "x", target_is_directory=True)
    (folder / "ant" / "linked photo é.png").symlink_to(tmp_path / "far" / "x" / "00.png")
    (folder / "ant" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "bee" / "loop").symlink_to(folder / "bee", target_is_directory=True)
    data = load(folder)
    assert data.tasks["label"].classes == ("ant", "bee", "chèvre naïve 山羊")
    assert "ant/linked photo é.png" in data.paths
    assert data.read(data.paths.index("chèvre naïve 山羊/00.png")).shape == (8, 8, 3)


def test_images_deeper_down_and_without_suffix_are_found(folder):
    paint(folder / "ant" / "2024" / "may" / "a.PNG", 5001)
    (folder / "ant" / "IMG_0001").write_bytes((folder / "bee" / "00.png").read_bytes()[:-4] + b"\xae\x42\x60\x82")
    data = load(folder)
    assert {"ant/2024/may/a.PNG", "ant/IMG_0001"} <= set(data.paths)


@pytest.mark.skipif(not hasattr(os, "fsencode") or sys.platform != "linux", reason="names are text elsewhere")
def test_files_whose_names_are_not_utf8_are_left_out_and_named(folder):
    shutil.copyfile(folder / "ant" / "00.png", os.fsencode(folder / "ant") + b"/caf\xe9.png")
    data = load(folder)
    assert len(data) == 20
    (finding,) = data.findings
    assert finding["left_out"]
    finding["path"].encode()  # can be printed and written
    assert "rename it" in finding["problem"]


def test_a_class_whose_name_is_not_utf8_is_refused(folder):
    shutil.copytree(os.fsencode(folder / "ant"), os.fsencode(folder) + b"/b\xfc")
    with pytest.raises(DataError, match="not UTF-8, and it is a class: rename it"):
        load(folder)


def test_csv(folder):
    rows = ["path, label ,split,group"]
    for name in ("ant", "bee"):
        for i in range(10):
            part = ("train", "train", "train", "Validation", "test")[i % 5]
            rows.append(f"{name}/{i:02}.png,the {name},{part},{i // 5 or ''}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n\n", encoding="utf-8-sig")
    data = load(folder / "labels.csv")
    assert data.tasks["label"].classes == ("the ant", "the bee")
    assert data.root == folder
    assert data.counts() == {"train": 12, "val": 4, "test": 4}
    assert any("group '1' straddles the given splits train and val and test" in f["problem"] for f in data.findings)


def test_csv_groups_hold_together_where_we_split(folder):
    names = [f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(10)]
    rows = [f"{name},{name[:3]},{i // 2}" for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    data = load(folder / "labels.csv")
    assert all(data.split[i] == data.split[i + 1] for i in range(0, 20, 2))
    assert set(data.split) == {"train", "val", "test"}


def test_csv_with_several_tasks(folder):
    names = [f"{name}/{i:02}.png" for name in ("ant", "bee") for i in range(10)]
    rows = [f"{name},{name[:3]},{10 ** (i % 2)}" for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["path,kind,size", *rows]))
    data = load(folder / "labels.csv", tasks={"kind": "single_label", "size": "single_label"})
    assert data.tasks["kind"].classes == ("ant", "bee")
    assert data.tasks["size"].classes == ("1", "10")
    for values in data.labels.values():
        assert len(np.unique(values[data.indices("test")])) == 2


@pytest.mark.parametrize("shape", [(30, 6, 5), (30, 6, 5, 1), (30, 6, 5, 3)])
@pytest.mark.parametrize("labels", [np.arange(30) % 11 % 3, np.array(["b", "a", "c"] * 10), [[0], [1], [10]] * 10])
def test_arrays(shape, labels):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = load((images, labels))
    assert data.source == "arrays"
    assert data.root is None
    assert len(data.tasks["label"].classes) == 3
    assert data.counts().keys() == {"train", "val", "test"}
    assert data.read(4).shape == (6, 5, 3)
    assert np.array_equal(
        data.read(4)[..., 1], images[4] if images.ndim == 3 else images[4, ..., -1 if shape[-1] == 1 else 1]
    )
    assert load((images, labels)).fingerprint == data.fingerprint


def test_arrays_of_many_sizes():
    images = [np.full((5 + i, 9, 3), i, np.uint8) for i in range(12)]
    data = load((images, ["a", "b"] * 6))
    assert data.read(7).shape == (12, 9, 3)


def test_whole_numbers_sort_as_numbers():
    images = np.arange(36, dtype=np.uint8).reshape(36, 1, 1)
    assert load((images, np.arange(36) % 12)).tasks["label"].classes == tuple(str(i) for i in range(12))


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), None])
def test_npz(tmp_path, names):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    labels = np.arange(60) % 3
    if names:
        np.savez(
            tmp_path / "d.npz", **dict(zip(names, (images[:40], labels[:40], images[40:], labels[40:]), strict=True))
        )
    else:
        np.savez(tmp_path / "d.npz", images=images, labels=labels)
    data = load(tmp_path / "d.npz")
    assert data.splits_given == bool(names)
    assert data.counts() == ({"train": 34, "val": 6, "test": 20} if names else {"train": 42, "val": 9, "test": 9})
    assert np.array_equal(data.read(50)[..., 0], images[50])


def test_keras_pairs_are_given_splits():
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    data = load(((images[:40], np.arange(40) % 2), (images[40:], np.arange(20) % 2)))
    assert data.counts() == {"train": 34, "val": 6, "test": 20}


def test_data_to_evaluate_on_need_no_splits(tmp_path):
    data = load(paint_folder(tmp_path, ("ant",), 2), split=False)
    assert data.counts() == {"test": 2}


def test_another_split_is_another_fingerprint(folder):
    data = load(folder)
    folds = fold_splits(data, 5, seed=0)
    assert np.array_equal(sum((fold == "test").astype(int) for fold in folds), np.ones(20))
    assert Counter(folds[0].tolist()) == {"train": 14, "val": 2, "test": 4}
    changed = with_split(data, folds[0])
    assert changed.fingerprint != data.fingerprint
    assert with_split(changed, data.split).fingerprint == data.fingerprint
    shipped = Counter(split_for_deployment(data, 0).tolist())
    assert shipped == {"train": 17, "val": 3}
    with pytest.raises(DataError, match="at least 2"):
        fold_splits(data, 1, seed=0)


def test_folds_have_no_leaks_of_given_splits(tmp_path):
    for split, seed in (("train", 0), ("test", 500)):
        paint_folder(tmp_path / split, ("ant", "bee"), 6, seed)
    shutil.copy(tmp_path / "train" / "ant" / "00.png", tmp_path / "test" / "ant" / "copy.png")
    shutil.copy(tmp_path / "train" / "ant" / "00.png", tmp_path / "test" / "bee" / "copy.png")
    data = load(tmp_path)
    assert {finding["kind"] for finding in data.findings} == {"leak", "conflicting_label"}
    for split in (*fold_splits(data, 3, seed=0), split_for_deployment(data, 0)):
        assert {finding["kind"] for finding in with_split(data, split).findings} == {"conflicting_label"}
    assert with_split(data, data.split).findings == data.findings


def test_a_file_that_vanishes_is_named(folder):
    data = load(folder)
    (folder / data.paths[2]).unlink()
    with pytest.raises(DataError, match=r"ant/02\.png: has gone"):
        data.read(2)


def test_a_file_that_is_another_one_now_is_never_taken_for_what_was_checked(folder):
    """Features are kept under the hash of what was checked: another image must not be computed under it."""
    data = load(folder)
    data.read(2)
    shutil.copy(folder / data.paths[-1], folder / data.paths[2])
    with pytest.raises(DataError, match=r"ant/02\.png: has changed since it was checked"):
        data.read(2)


def test_real_folders(shared_data):
    hymenoptera = load(shared_data / "hymenoptera")
    assert hymenoptera.counts() == {"train": 243, "val": 153}
    assert hymenoptera.tasks["label"].classes == ("ants", "bees")
    clothing = load(shared_data / "clothing")
    assert sum(clothing.counts().values()) == 341
    assert len(clothing.tasks["label"].classes) == 10
    assert clothing.findings == []


def test_real_csv(shared_data):
    with pytest.raises(DataError, match="class 'Platelets' of `cells` has no training images"):
        load(shared_data / "bccd" / "labels.csv", tasks={"cells": "single_label"})


def test_real_npz(shared_data):
    data = load(shared_data / "mnist.npz")
    assert data.counts() == {"train": 51000, "val": 9000, "test": 10000}
    assert data.tasks["label"].classes == tuple("0123456789")
