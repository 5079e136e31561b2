"""CSV and .npz files made to exhaust the machine, to run code, or to have files read that lie elsewhere."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from tlkit.data import npz
from tlkit.data.arrays import list_npz
from tlkit.data.grouping import group_by_regex
from tlkit.data.index import load
from tlkit.data.labels import class_names, read_column
from tlkit.data.listing import list_csv
from tlkit.errors import DataError

KINDS = {"label": "auto"}


@pytest.fixture
def folder(tmp_path):
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    return tmp_path


def write(path, rows):
    path.write_text("\n".join(rows))
    return path


def peak_of(function):
    """Return the most MiB that Python and NumPy held at once while a function ran, and what it returned or raised."""
    tracemalloc.start()
    try:
        answer = function()
    except DataError as error:
        answer = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20, answer


def test_many_columns_times_many_rows_take_the_memory_of_the_file(tmp_path):
    """A dict for each row would take 10 GB here."""
    header = ",".join(["path", "label", *(f"c{number}" for number in range(20_000))])
    file = write(tmp_path / "wide.csv", [header, *(f"{number}.png,a" for number in range(5000))])
    peak, answer = peak_of(lambda: list_csv(file, KINDS))
    assert "5000 of 5000 files are missing" in str(answer)
    assert peak < 50


def test_a_label_of_its_own_for_every_image_takes_a_byte_a_cell(tmp_path):
    cells = [f"l{number}" for number in range(4000)]
    peak, column = peak_of(lambda: read_column("label", cells, range(4000), "multilabel"))
    assert column.values.shape == (4000, 4000)
    assert peak < 100


def test_a_table_of_labels_that_is_too_large_is_refused():
    cells = [f"l{number}" for number in range(50_000)]
    with pytest.raises(DataError, match="holds 50000 different labels, too many for 50000 rows"):
        read_column("label", cells, range(50_000), "multilabel")


def test_numbers_that_python_does_not_convert_are_names():
    assert class_names(["9" * 5000, "10", "2"]) == ("10", "2", "9" * 5000)
    assert class_names(["10", "2"]) == ("2", "10")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a/" * 3000 + ".png", "0.png/x.png", "/dev/zero"])
def test_paths_that_no_file_can_have_are_missing(folder, name):
    file = write(folder / "labels.csv", ["path,label", "0.png,a", f"{name},b"])
    with pytest.raises(DataError, match="1 file is missing"):
        load(file)


@pytest.mark.parametrize("row", ["a\0.png,a", "\x1b[2J.png,a", '"a\nb.png",a', '0.png,"a\x1b[2Jb"'])
def test_names_with_control_characters_are_refused(folder, row):
    with pytest.raises(DataError, match="control characters"):
        load(write(folder / "labels.csv", ["path,label", row]))


def test_absolute_paths_and_those_that_lead_out_are_used_and_named(folder, tmp_path):
    rows = ["path,label", *(f"{folder}/{number}.png,{'ab'[number % 2]}" for number in range(7)), "../7.png,b"]
    (folder / "lists").mkdir()
    data = load(write(folder / "lists" / "labels.csv", rows))
    assert len(data) == 8
    (finding,) = data.findings
    assert finding["problem"].startswith(f"leads out of the data's folder to {folder}/0.png, as do 7 more")


def test_what_a_csv_names_is_only_used_if_it_is_an_image(folder, tmp_path):
    rows = ["path,label", *(f"{number}.png,{'ab'[number % 2]}" for number in range(8)), "/etc/passwd,a"]
    data = load(write(folder / "labels.csv", rows))
    assert len(data) == 8
    assert "root" not in str([finding["problem"] for finding in data.findings])


# --- groups ---------------------------------------------------------------------------------------------------------


def test_an_expression_that_would_take_ages_is_stopped(monkeypatch):
    monkeypatch.setattr("tlkit.data.grouping.SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(DataError, match="takes more than 1 s to match 1 paths"):
        group_by_regex(["a" * 60 + "b"], "(a+)+$")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("pattern", ["(" * 5000, "a{99999999999999999999}", "(?<n", "[", "*", "(?P<a>x)(?P<a>y)"])
def test_expressions_that_are_none_get_one_line(pattern):
    with pytest.raises(DataError, match="is no regular expression") as caught:
        group_by_regex(["a"], pattern)
    assert "\n" not in str(caught.value)


def test_groups_are_those_of_the_expression():
    assert group_by_regex(["p1_a.png", "p1_b.png", "é2_a.png"], r"^(\w\d)_") == ["p1", "p1", "é2"]
    assert group_by_regex(["p1_a.png"], r"p\d") == ["p1"]


# --- arrays ---------------------------------------------------------------------------------------------------------


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, dtype="|u1"):
    return raw_header(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}")


def raw_header(text):
    text = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(f"{name}.npy", content)
    return path


LABELS = npy(np.arange(6))
IMAGES = npy(np.zeros((6, 4, 4), np.uint8))


class Planted:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


HOSTILE = {
    "pickle": {"images": b"\x93NUMPY\x01\x00" + header((1,), "|O")[8:] + pickle.dumps([Planted()]), "labels": LABELS},
    "objects": {"images": npy(np.zeros((6, 4, 4), np.uint8)), "labels": pickle.dumps(Planted())},
    "shape": {"images": header((10**6, 10**6, 10**6)), "labels": LABELS},
    "overflow": {"images": header((2**32, 2**32, 1)), "labels": LABELS},
    "negative": {"images": header((-1, 4, 4)), "labels": LABELS},
    "no bytes each": {"images": IMAGES, "labels": header((10**15,), "<U0")},
    "short": {"images": header((6, 4, 4)) + bytes(95), "labels": LABELS},
    "nested": {"images": header("(" * 2000), "labels": LABELS},
    "long header": {"images": header((1,) * 3000), "labels": LABELS},
    "keys of two kinds": {"images": raw_header("{'descr': '|u1', b'descr': 1, 'shape': ()}"), "labels": LABELS},
    "key that is a list": {"images": raw_header("{[]: 1}"), "labels": LABELS},
    "type that is nothing": {"images": header((6, 4, 4), ()), "labels": LABELS},
    "version": {"images": b"\x93NUMPY\x09\x00" + bytes(100), "labels": LABELS},
    "empty": {"images": b"", "labels": b""},
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_hostile_arrays_are_refused(tmp_path, members):
    path = archive(tmp_path / "a.npz", **members)
    peak, answer = peak_of(lambda: list_npz(path, KINDS))
    assert "not an .npz file that can be read" in str(answer)
    assert peak < 20


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_memory", lambda: 2**21)
    path = archive(tmp_path / "a.npz", images=npy(np.zeros((300, 64, 64), np.uint8)), labels=npy(np.arange(300)))
    assert path.stat().st_size < 10_000
    peak, answer = peak_of(lambda: list_npz(path, KINDS))
    assert "more than there is memory for" in str(answer)
    assert peak < 1


def test_an_array_with_an_archive_behind_it_is_read_as_the_archive(tmp_path):
    whole = archive(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    whole.write_bytes(IMAGES + whole.read_bytes())
    assert len(list_npz(whole, KINDS).paths) == 6


def test_an_encrypted_archive_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        list_npz(path, KINDS)
