"""`tlkit datasets get`: every card's dataset, small, from a server on loopback to the place that `--data` takes."""

import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import tomli_w
from PIL import Image
from scipy.io import savemat
from tls_server import Served, new_authority, serve, trusted

from tlkit import download, share
from tlkit.api import getting
from tlkit.data.index import load
from tlkit.share import read_cards

CARDS = read_cards()
CLASSES = ("ant", "bee")


def photo(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "uint8")
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def class_folders(root, splits=("",), per_class=4):
    """Return members `root/split/class/n.jpg`."""
    names = [f"{root}{split}{of}/{n}.jpg" for split in splits for of in CLASSES for n in range(per_class)]
    return {name: photo(zlib.crc32(name.encode())) for name in names}


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def matlab(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def cifar10_records(labels, first):
    """Record k: its label, and a plane each of red k, green k + 1 and blue k + 2."""
    planes = (bytes([k + c]) * 1024 for k in range(first, first + len(labels)) for c in range(3))
    pixels = iter(planes)
    return b"".join(bytes([label]) + next(pixels) + next(pixels) + next(pixels) for label in labels)


def cifar10_files():
    files = {f"data_batch_{n}.bin": cifar10_records([0, 1], 10 * n) for n in range(1, 6)}
    files |= {"test_batch.bin": cifar10_records([1, 0], 100), "batches.meta.txt": b"ant\nbee\n\n"}
    return tarred({f"cifar-10-batches-bin/{name}": content for name, content in files.items()})


LISTED = [f"{of}/{n}" for of in CLASSES for n in range(4)]
PETS = [f"{of}_{n}" for of in ("red_ant", "Bee") for n in range(4)]
# What the servers have, made small; the order is that of the cards.
FILES = {
    "beans": [zipped(class_folders("", [f"{split}/"])) for split in ("train", "validation", "test")],
    "cats_vs_dogs": [zipped(class_folders("PetImages/") | {"readme[1].txt": b"text"})],
    "cifar10": [cifar10_files()],
    "eurosat": [zipped(class_folders("EuroSAT_RGB/"))],
    "flowers102": [
        tarred({f"jpg/image_{n:05}.jpg": photo(n) for n in range(1, 13)}),
        matlab(labels=np.array([[1, 2] * 6], "uint8")),
        matlab(
            trnid=np.arange(1, 5)[None].astype("uint16"),
            valid=np.arange(5, 9)[None].astype("uint16"),
            tstid=np.arange(9, 13)[None].astype("uint16"),
        ),
    ],
    "food101": [
        tarred(
            {f"food-101/images/{name}.jpg": photo(n) for n, name in enumerate(LISTED)}
            | {"food-101/meta/train.txt": "\n".join(n for n in LISTED if n[-1] < "3").encode()}
            | {"food-101/meta/test.txt": "\n".join(n for n in LISTED if n[-1] == "3").encode()}
        )
    ],
    "hymenoptera": [zipped(class_folders("hymenoptera_data/", ("train/", "val/")))],
    "imagenette": [tarred(class_folders("imagenette2-320/", ("train/", "val/")))],
    "mnist": [
        npz(
            x_train=np.arange(6 * 784, dtype="uint8").reshape(6, 28, 28),
            y_train=np.array([0, 1] * 3, "uint8"),
            x_test=np.zeros((2, 28, 28), "uint8"),
            y_test=np.array([0, 1], "uint8"),
        )
    ],
    "oxford_pets": [
        tarred({f"images/{name}.jpg": photo(n) for n, name in enumerate(PETS)} | {"images/._a.jpg": b"mac"}),
        tarred(
            {
                "annotations/trainval.txt": "\n".join(f"{name} 1 1 1" for name in PETS if name[-1] < "3").encode(),
                "annotations/test.txt": "\n".join(f"{name} 1 1 1" for name in PETS if name[-1] == "3").encode(),
            }
        ),
    ],
}
COUNTS = {
    "beans": {"train": 8, "val": 8, "test": 8},
    "cats_vs_dogs": {},
    "cifar10": {"train": 10, "test": 2},
    "eurosat": {},
    "flowers102": {"train": 4, "val": 4, "test": 4},
    "food101": {"train": 6, "test": 2},
    "hymenoptera": {"train": 8, "val": 8},
    "imagenette": {"train": 8, "val": 8},
    "mnist": {"train": 6, "test": 2},
    "oxford_pets": {"train": 6, "test": 2},
}


@pytest.fixture(scope="module")
def authority():
    return new_authority()


@pytest.fixture
def served(authority, tmp_path, monkeypatch):
    """The cards, each of two classes, whose files are on loopback; a dict of path to `Served`. We are in `tmp_path`."""
    trusted(authority, tmp_path, monkeypatch)
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(share, "PACKAGE", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    files, cards = {}, tmp_path / "package" / "_share" / "datasets"
    cards.mkdir(parents=True)
    with serve(files, authority) as address:
        for name, card in CARDS.items():
            card = card | {"classes": 2, "files": [dict(file) for file in card["files"]]}
            for file, content in zip(card["files"], FILES[name], strict=True):
                path = "/" + file["url"].rpartition("/")[2]
                files[path] = Served(content)
                kind = "sha256" if "sha256" in file else "md5"
                file |= {"url": address + path, kind: hashlib.new(kind, content).hexdigest()}
                if "bytes" in file:
                    file["bytes"] = len(content)
            (cards / f"{name}.toml").write_text(tomli_w.dumps(card), encoding="utf-8")
        yield files


def of_dataset(served, name):
    return [served["/" + file["url"].rpartition("/")[2]] for file in CARDS[name]["files"]]


@pytest.mark.parametrize("name", CARDS)
def test_every_dataset_comes_into_the_place_that_data_takes(name, served, tlkit, tmp_path):
    status, out, err = tlkit("datasets", "get", name)
    assert status == 0, err
    path = out.splitlines()[-1].removeprefix("train with: tlkit finetune --data ")
    assert path == str((tmp_path / name / CARDS[name]["get"]["data"]).relative_to(tmp_path))
    assert ("beans: 24 images, 2 classes: train 8, val 8, test 8" in out) == (name == "beans")
    data = load(path)
    assert not data.findings or name in ("mnist", "cifar10")
    [task] = data.tasks.values()
    assert len(task.classes) == 2
    if COUNTS[name]:
        counts = data.counts()
        if "val" not in COUNTS[name]:
            counts["train"] += counts.pop("val")  # which tlkit held out of the training images
        assert counts == COUNTS[name]
    assert not (tmp_path / f"{name}.part").exists()


def test_nothing_is_fetched_twice_or_overwritten(served, tlkit, tmp_path):
    tlkit("datasets", "get", "eurosat")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "eurosat").rglob("*")}
    status, out, err = tlkit("datasets", "get", "eurosat", "eurosat")
    assert status == 0
    assert "eurosat is here already" in err
    assert "eurosat/EuroSAT_RGB" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "eurosat").rglob("*")} == before
    assert len(of_dataset(served, "eurosat")[0].requests) == 1
    next((tmp_path / "eurosat").rglob("*.jpg")).unlink()
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert status == 2
    assert "files were added or lost" in err


@pytest.mark.parametrize("name", ["mine", "mine.part"])
def test_what_is_there_is_left_alone(name, served, tlkit, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("keep me")
    status, _, err = tlkit("datasets", "get", "eurosat", "mine")
    assert status == 2
    assert "holds something else. Choose another folder" in err.splitlines()[-1]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["thesis.txt"]
    (tmp_path / "mine.txt").write_text("keep me")
    assert "expected a folder" in tlkit("datasets", "get", "eurosat", "mine.txt")[2]
    assert not served["/EuroSAT_RGB.zip"].requests


def test_two_calls_at_once_do_not_disturb_each_other(served, tlkit, tmp_path, monkeypatch):
    unpack, heard = getting.unpack, []

    def unpack_beside_another(file, folder):
        found = subprocess.run([sys.executable, "-c", ANOTHER, "eurosat"], capture_output=True, text=True)
        heard.append((found.returncode, found.stdout))
        unpack(file, folder)

    monkeypatch.setattr(getting, "unpack", unpack_beside_another)
    assert tlkit("datasets", "get", "eurosat")[0] == 0
    [(status, line)] = heard
    assert (status, "works on this download" in line) == (2, True)
    assert tlkit("datasets", "get", "eurosat")[0] == 0  # whole
    assert not (tmp_path / "eurosat.part").exists()


ANOTHER = """
import sys
from pathlib import Path
from tlkit import share
from tlkit.api.getting import get_dataset
from tlkit.errors import TlkitError
share.PACKAGE = Path.cwd() / "package"
try:
    get_dataset(sys.argv[1])
except TlkitError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_a_folder_without_a_name_is_refused_before_the_download(folder, served, tlkit):
    status, _, err = tlkit("datasets", "get", "eurosat", folder)
    assert status == 2
    assert "expected the name of a new folder" in err or "holds something else" in err
    assert not of_dataset(served, "eurosat")[0].requests


def test_a_file_that_a_mac_leaves_is_no_change(served, tlkit, tmp_path):
    tlkit("datasets", "get", "eurosat")
    (tmp_path / "eurosat" / ".DS_Store").write_bytes(b"view options")
    assert tlkit("datasets", "get", "eurosat")[0] == 0


@pytest.mark.parametrize("record", ["[" * 100_000, "null", ""])
def test_a_damaged_record_is_one_line(record, served, tlkit, tmp_path):
    tlkit("datasets", "get", "eurosat")
    (tmp_path / "eurosat" / getting.RECORD).write_text(record)
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert status == 2
    assert "Traceback" not in err


def test_an_empty_folder_is_filled(served, tlkit, tmp_path):
    (tmp_path / "mine").mkdir()
    assert tlkit("datasets", "get", "eurosat", tmp_path / "mine")[0] == 0
    assert (tmp_path / "mine" / "EuroSAT_RGB").is_dir()


def test_a_download_that_broke_off_goes_on_in_the_next_call(served, tlkit, tmp_path):
    file = served["/validation.zip"]
    file.cut_after = [1000, 0, 0, 0, 0]
    status, _, err = tlkit("datasets", "get", "beans")
    assert status == 2
    assert "5 times in a row" in err.splitlines()[-1]
    assert not (tmp_path / "beans").exists()
    assert tlkit("datasets", "get", "beans")[0] == 0
    assert len(served["/train.zip"].requests) == 1  # it had come
    assert file.requests[-1][0] == "bytes=1000-"


HOSTILE = {
    "above": zipped(class_folders("EuroSAT_RGB/") | {"../evil.jpg": b"evil"}),
    "bomb": None,
    "no archive": b"not an archive",
    "another layout": zipped(class_folders("EuroSAT/")),
    "one class": zipped({f"EuroSAT_RGB/ant/{n}.jpg": photo(n) for n in range(9)}),
    "a few classes too many": zipped(class_folders("EuroSAT_RGB/") | {"EuroSAT_RGB/c/1.jpg": photo(1)}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_with_the_right_checksum_leaves_no_folder(kind, served, tlkit, tmp_path):
    content = HOSTILE[kind]
    if content is None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("EuroSAT_RGB/ant/1.jpg", bytes(2**25))
        content = file.getvalue()
    served["/EuroSAT_RGB.zip"].content = content
    path = tmp_path / "package" / "_share" / "datasets" / "eurosat.toml"
    card = read_cards()["eurosat"]
    card["files"][0] |= {"md5": hashlib.md5(content).hexdigest(), "bytes": len(content)}
    path.write_text(tomli_w.dumps(card), encoding="utf-8")
    status, _, err = tlkit("datasets", "get", "eurosat", "in/mine")
    assert status == 2
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["mine.part"]
    assert {path.name for path in (tmp_path / "in" / "mine.part").iterdir()} == {".tlkit-download", "EuroSAT_RGB.zip"}


def test_a_wrong_checksum_and_no_network_leave_nothing(served, tlkit, tmp_path, monkeypatch):
    served["/EuroSAT_RGB.zip"].content = bytes(len(FILES["eurosat"][0]))
    before = set(tmp_path.iterdir())
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert (status, "Expected md5" in err.splitlines()[-1]) == (2, True)

    def unreachable(*_args, **_kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", unreachable)
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert (status, "Is there a network?" in err.splitlines()[-1]) == (2, True)
    assert set(tmp_path.iterdir()) == before


def test_a_file_without_a_checksum_is_not_fetched(served, tlkit, tmp_path):
    path = tmp_path / "package" / "_share" / "datasets" / "eurosat.toml"
    card = read_cards()["eurosat"]
    del card["files"][0]["md5"]
    path.write_text(tomli_w.dumps(card), encoding="utf-8")
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert status == 2
    assert "no checksum" in err
    assert "The archive holds the folder EuroSAT_RGB" in err
    assert not served["/EuroSAT_RGB.zip"].requests


def test_a_name_that_is_no_cards_gets_the_nearest(tlkit):
    status, _, err = tlkit("datasets", "get", "mnits")
    assert status == 2
    assert "Did you mean 'mnist'?" in err


def test_pixels_and_labels_of_cifar10_are_where_they_belong(served, tlkit, tmp_path):
    tlkit("datasets", "get", "cifar10")
    with np.load(tmp_path / "cifar10" / "cifar10.npz") as arrays:
        assert arrays["x_train"].shape == (10, 32, 32, 3)
        assert arrays["x_train"][3, 5, 7].tolist() == [21, 22, 23]  # the second record of the second batch
        assert arrays["y_train"].tolist() == ["ant", "bee"] * 5
        assert arrays["y_test"].tolist() == ["bee", "ant"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("flowers102", ["jpg/image_00006.jpg", "class_002", "val"]),
        ("food101", ["food-101/images/bee/3.jpg", "bee", "test"]),
        ("oxford_pets", ["images/red_ant_0.jpg", "red_ant", "train"]),
    ],
)
def test_lists_become_a_csv(name, row, served, tlkit, tmp_path):
    tlkit("datasets", "get", name)
    with (tmp_path / name / "labels.csv").open(newline="") as file:
        assert row in list(csv.reader(file))


def test_a_list_that_is_cut_short_is_one_line(served, tlkit, tmp_path):
    names = {"cifar-10-batches-bin/batches.meta.txt": b"ant\nbee\n", "cifar-10-batches-bin/test_batch.bin": b"\1" * 99}
    content = tarred(names | {f"cifar-10-batches-bin/data_batch_{n}.bin": b"\1" * 99 for n in range(1, 6)})
    served["/cifar-10-binary.tar.gz"].content = content
    path = tmp_path / "package" / "_share" / "datasets" / "cifar10.toml"
    card = read_cards()["cifar10"]
    card["files"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(tomli_w.dumps(card), encoding="utf-8")
    status, _, err = tlkit("datasets", "get", "cifar10")
    assert status == 2
    assert "isn't laid out as its card says" in err
    assert "kept in cifar10.part; by hand: The binary version" in err
    assert not (tmp_path / "cifar10").exists()


def test_cards_are_printed_before_and_after_json(tlkit):
    for command in (("datasets", "--json", "beans"), ("datasets", "beans", "--json")):
        assert json.loads(tlkit(*command)[1])["name"] == "beans"
    assert set(json.loads(tlkit("datasets", "--json")[1])) == set(CARDS)


def test_a_disk_without_room_is_one_line(served, tlkit, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    status, _, err = tlkit("datasets", "get", "eurosat")
    assert status == 2
    assert "Make room there" in err.splitlines()[-1]
    assert not (tmp_path / "eurosat").exists()
