"""Every way to hand in unusable data, with the one line that is said."""

import re

import numpy as np
import pytest
from PIL import Image

from tlkit.data.index import load
from tlkit.errors import DataError


def paint(root, names):
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def numbered(*classes, n=4):
    return [f"{name}/{i}.png" for name in classes for i in range(n)]


@pytest.fixture
def root(tmp_path):
    """A folder whose name is near to what a user may mistype."""
    folder = tmp_path / "animals"
    folder.mkdir()
    return folder


FOLDERS = {
    "empty": ([], "no images found"),
    "images without classes": (["a.png", "b.png"], "2 images, but no class folders"),
    "flat splits": (["train/a.png", "test/b.png"], "2 images, but no class folders"),
    "one class": (numbered("ant"), "a classifier needs at least two classes; only 'ant' was found"),
    "too few": ([*numbered("ant"), "bee/0.png", "bee/1.png"], "class 'bee' has 2 usable images in 2 groups"),
    "nothing to train on": (numbered("val/a", "val/b", "test/a", "test/b"), "there is nothing to train on"),
    "class only in test": (
        numbered("train/ant", "train/bee", "test/ant", "test/wasp"),
        "class 'wasp' of `label` has no training images (it has images in test): move some to train",
    ),
    "class only in val": (
        numbered("train/ant", "train/bee", "val/ant", "val/wasp"),
        "class 'wasp' of `label` has no training images (it has images in val)",
    ),
    "too few to carve": (
        [*numbered("train/ant", "test/ant", "test/bee"), "train/bee/0.png"],
        "class 'bee' has 1 usable image in 1 group; taking a val split out of train takes at least 2",
    ),
}


@pytest.mark.parametrize(("names", "fragment"), FOLDERS.values(), ids=FOLDERS)
def test_folders(root, names, fragment):
    paint(root, names)
    refuse(root, fragment)


def test_identical_files_count_once(root):
    paint(root, numbered("ant", "bee"))
    for i in range(1, 4):
        (root / "bee" / f"{i}.png").write_bytes((root / "bee" / "0.png").read_bytes())
    refuse(root, "class 'bee' has 4 usable images in 1 group")


def test_a_class_that_lost_its_images_is_missed(root):
    paint(root, numbered("ant", "bee"))
    for path in (root / "bee").iterdir():
        path.write_bytes(b"")
    refuse(root, "class 'bee' has 0 usable images")
    for path in (root / "ant").iterdir():
        path.write_bytes(b"")
    refuse(root, "none of the 8 images can be used; first ant/0.png: the file is empty")


def test_wrong_paths(root):
    refuse(root.parent / "animal", "no such file or folder. Did you mean 'animals'?")
    refuse(root.parent / "no" / "animal", "doesn't exist either")
    (root / "photos.zip").touch()
    refuse(root / "photos.zip", "unpack the archive")
    paint(root, ["a.png"])
    refuse(root / "a.png", "must be a folder, a .csv or an .npz file")


@pytest.mark.parametrize(
    ("pattern", "fragment"),
    [
        ("(", "is no regular expression"),
        (r"patient(\d+)", "must match every path; in 8 of 8 it finds no group, first 'ant/0.png'"),
        (r"(ant/\d)|bee", "in 4 of 8 it finds no group, first 'bee/0.png'"),
    ],
)
def test_group_by(root, pattern, fragment):
    paint(root, numbered("ant", "bee"))
    refuse(root, fragment, group_by=pattern)


def test_groups_tied_across_classes(root):
    paint(root, numbered("ant", "bee"))
    refuse(root, "class 'ant' has 4 usable images in 1 group", group_by=r"\.png")


CSVS = {
    "empty": ("", "the CSV has no rows"),
    "only a header": ("path,label\n", "the CSV has no rows"),
    "no path": ("file,label\na/0.png,a\n", "no column 'path'; the columns are file, label."),
    "no label": ("path,lable\na/0.png,a\n", "no column 'label'; the columns are path, lable. Did you mean 'lable'?"),
    "other label": ("path,species\na/0.png,a\n", "To name a label column, add `--task species=single_label`"),
    "other labels": (
        "path,split,cells,count\na/0.png,train,x y,0.5\na/1.png,train,x,2\nb/0.png,test,y,3\n",
        "no column 'label'; the columns are path, split, cells, count. To name a label column, add "
        "`--task cells=multilabel` or `--task cells=single_label`; "
        "`--task count=regression` or `--task count=single_label`",
    ),
    "ambiguous labels": (
        "path,label\na/0.png,x y\na/1.png,x\nb/0.png,y\n",
        "labels.csv: the column 'label' is ambiguous: 'x y' may be one class, or 2 labels at once. Say what it holds "
        "with `--task label=multilabel` or `--task label=single_label`",
    ),
    "ambiguous numbers": (
        "path,label\na/0.png,1.5\na/1.png,2\n",
        "its cells are numbers, not all of them whole. Say what it holds with `--task label=regression`",
    ),
    "missing files": (
        "path,label\na/0.png,a\na/7.png,a\nb/8.png,b\n",
        "2 of 3 files are missing, first 'a/7.png' in line 3",
    ),
    "no labels": ("path,label\na/0.png,\na/1.png\n", "none of the 2 images has a label (label)"),
    "long row": ("path,label\na/0.png,a,b\n", "line 2: more cells than columns"),
    "empty path": ("path,label\n,a\n", "line 2: the 'path' is empty"),
    "twice": ("path,label\na/0.png,a\na/0.png,b\n", "line 3: a/0.png stands already in line 2"),
    "split": ("path,label,split\na/0.png,a,trian\n", "line 2: `split` must be train, val or test. Received: 'trian'."),
    "split left empty": ("path,label,split\na/0.png,a,train\na/1.png,a,\n", "line 3: `split` must be"),
    "one class": ("path,label\na/0.png,a\na/1.png,a\n", "only 'a' was found"),
    "quotes": ('path,label\n"a/0.png,a\n', "line "),
}


@pytest.mark.parametrize(("text", "fragment"), CSVS.values(), ids=CSVS)
def test_csvs(root, text, fragment):
    paint(root, numbered("a", "b"))
    (root / "labels.csv").write_text(text)
    refuse(root / "labels.csv", fragment)


def test_columns_that_cannot_be_read_or_learnt(root):
    paint(root, numbered("a", "b"))
    names = numbered("a", "b")
    for cells, kind, said in (
        (["1", "x"] * 4, "regression", "line 3: 'label' must be a finite number such as 12.5. Received: 'x'"),
        (["2"] * 8, "regression", "`label` is 2 for all training images: there is nothing to learn"),
        (["x", "-|x"] * 4, "multilabel", "line 3: 'label' must hold labels, or '-' alone for none of them"),
    ):
        rows = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
        (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
        refuse(root / "labels.csv", said, tasks={"label": kind})


def test_csv_that_is_not_text(root):
    (root / "labels.csv").write_bytes("path,label\ncafé.png,a".encode("latin-1"))
    refuse(root / "labels.csv", "not UTF-8 text (byte 14)")
    (root / "labels.csv").write_bytes("path,label\na.png,a".encode("utf-16"))
    refuse(root / "labels.csv", "not UTF-8 text")


def test_tasks(root):
    paint(root, numbered("a", "b"))
    refuse(root, "Did you mean 'single_label'?", tasks={"label": "single-label"})
    refuse(root, "only a CSV has label columns", tasks={"species": "single_label"})
    refuse(root, "has a meaning of its own", tasks={"split": "single_label"})
    refuse(root, "class folders are single labels; other kinds take a CSV", tasks={"label": "multilabel"})


IMAGES = np.zeros((6, 4, 4, 3), np.uint8)
ARRAYS = {
    "unit floats": ((IMAGES / 255, range(6)), "float64 from 0 to 0: convert them: (images * 255)"),
    "floats": ((IMAGES + 300.5, range(6)), "Received: float64 from 300.5 to 300.5"),
    "wide ints": ((IMAGES.astype(int) + 256, range(6)), "Received: int64 from 256 to 256"),
    "bools": ((IMAGES.astype(bool), range(6)), "Received: bool"),
    "channels first": ((np.zeros((6, 3, 4, 4), np.uint8), range(6)), "images.transpose(0, 2, 3, 1)"),
    "four channels": ((np.zeros((6, 4, 4, 4), np.uint8), range(6)), "Received: (6, 4, 4, 4)"),
    "flat": ((np.zeros((6, 16), np.uint8), range(6)), "Received: (6, 16)"),
    "none": ((np.zeros((0, 4, 4), np.uint8), []), "Received: (0, 4, 4)"),
    "lengths": ((IMAGES, range(5)), "6 images and 5 labels"),
    "one-hot": ((IMAGES, np.eye(6)), "labels.argmax(axis=1)"),
    "float labels": ((IMAGES, np.arange(6) / 2), "whole numbers or strings. Received: 0.0"),
    "numbers": ((IMAGES, np.arange(6) / 2), 'numbers to predict are of the kind "regression"'),
    "two tasks": (
        (IMAGES, {"one": range(6), "two": range(6)}),
        "labels of the tasks label are needed. Received: one, two",
    ),
    "empty label": ((IMAGES, ["a", "b", "", "a", "b", "a"]), "label 2 is empty"),
    "odd image": (([np.zeros((4, 4), np.uint8), np.zeros(4, np.uint8)], [0, 1]), "image 1 must be (height, width"),
    "empty list": (([], []), "no images"),
    "no pair": ((IMAGES,), "data must be a path, (images, labels)"),
    "number": (7, "Received: int"),
}


@pytest.mark.parametrize(("source", "fragment"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(source, fragment):
    refuse(source, fragment)


@pytest.mark.parametrize(
    ("labels", "kind", "fragment"),
    [
        (range(6), "multilabel", "must have the shape (n, classes). Received: (6,)"),
        (np.eye(6) / 2, "multilabel", "each row of labels must hold 0 and 1"),
        ([[0, -1], *[[0, 1]] * 5], "multilabel", "each row of labels must hold 0 and 1, or be -1 throughout"),
        (np.eye(5), "multilabel", "6 images and 5 labels"),
        (np.eye(6), "regression", "must have the shape (n,). Received: (6, 6)"),
        (["a"] * 6, "regression", "must be finite numbers"),
        ([np.inf] * 6, "regression", "must be finite numbers"),
    ],
)
def test_arrays_of_another_kind(labels, kind, fragment):
    refuse((IMAGES, labels), fragment, tasks={"label": kind})


def test_npz(root):
    np.savez(root / "other.npz", pixels=IMAGES, labels=np.arange(6))
    refuse(root / "other.npz", "expected the arrays images, labels or x_train, y_train, x_test, y_test; it has pixels")
    (root / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    refuse(root / "broken.npz", "not an .npz file that can be read")
    (root / "text.npz").write_bytes(b"hello")
    refuse(root / "text.npz", "not an .npz file that can be read")
    np.savez(root / "objects.npz", images=np.array([{}, {}]), labels=np.arange(2))
    refuse(root / "objects.npz", "not an .npz file that can be read")
    np.save(root / "single.npy", IMAGES)
    (root / "single.npy").rename(root / "single.npz")
    refuse(root / "single.npz", "not an .npz file")


def refuse(source, fragment, **options):
    with pytest.raises(DataError, match=re.escape(fragment)) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)
