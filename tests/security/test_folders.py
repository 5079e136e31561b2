"""Folders made to hang or to exhaust the machine, or to have files read that lie elsewhere."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkit.data import files, walk
from tlkit.data.checks import check_files
from tlkit.data.files import read_file
from tlkit.data.headers import DecodeError
from tlkit.data.index import load
from tlkit.data.listing import find_source
from tlkit.data.walk import images_below, images_in, leading_out
from tlkit.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links of Unix")


def paint(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """A data set that can be used: two classes of four images."""
    for seed in range(8):
        paint(tmp_path / "data" / "ab"[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "data"


def problems(data):
    return {finding["path"]: finding["problem"] for finding in data.findings}


def test_pipes_sockets_and_devices_are_left_out_and_not_waited_for(root, tmp_path, monkeypatch):
    os.mkfifo(root / "a" / "pipe.png")
    os.mkfifo(root / "a" / "without_suffix")
    (root / "b" / "zero.png").symlink_to("/dev/zero")
    (root / "b" / "terminal.png").symlink_to("/dev/tty")
    (root / "b" / "folder.png").mkdir()
    monkeypatch.chdir(root / "b")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        data = load(root)
    assert len(data) == 8
    found = problems(data)
    assert found["a/pipe.png"] == "not a file but a pipe"
    assert found["b/socket.png"] == "not a file but a socket"
    assert found["b/zero.png"] == "not a file but a device"


def test_a_file_that_became_a_pipe_is_named(root):
    data = load(root)
    path = root / data.paths[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a file but a pipe"):
        data.read(0)


def test_links_to_themselves_and_to_folders_above_end(root):
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "self.png").symlink_to("self.png")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "top").symlink_to("/")
    assert len(load(root)) == 8


def test_links_that_double_at_every_level_are_followed_once(tmp_path):
    for level in range(40):
        (tmp_path / f"d{level}").mkdir()
        for name in "xy":
            (tmp_path / f"d{level}" / name).symlink_to(tmp_path / f"d{level + 1}")
    paint(tmp_path / "d40" / "a.png")
    assert len(list(images_below(tmp_path / "d0"))) == 1


def test_the_systems_folders_are_not_walked(tmp_path):
    (tmp_path / "processes").symlink_to("/proc")
    (tmp_path / "devices").symlink_to("/dev")
    assert list(images_below(tmp_path)) == []


@pytest.fixture
def deep(tmp_path):
    """Function that makes folders in one another and returns the top one; Python itself can't remove so many."""
    top = tmp_path / "deep"

    def make(name, levels):
        here = os.getcwd()  # noqa: PTH109
        top.mkdir()
        try:
            os.chdir(top)
            for _ in range(levels):
                os.mkdir(name)  # noqa: PTH102
                os.chdir(name)
            paint(Path("a.png"))
        finally:
            os.chdir(here)
        return top

    yield make
    subprocess.run(["rm", "-rf", top], check=True)


def test_folders_deeper_than_python_recurses(deep):
    assert len(list(images_below(deep("d", 1200)))) == 1


def test_folders_deeper_than_a_path_can_say(deep):
    with pytest.raises(DataError, match="File name too long"):
        load(deep("n" * 100, 60))


def test_more_images_than_there_can_be_are_refused(root, monkeypatch):
    monkeypatch.setattr(walk, "MAX_IMAGES", 3)
    with pytest.raises(DataError, match="more than 3 images; do links multiply them"):
        list(images_below(root))


def test_sparse_files_of_a_terabyte_cost_nothing(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(2**30 - 1)
    huge, large = check_files([tmp_path / "huge.png", tmp_path / "large.png"])
    assert huge.problem == "absurdly large: more than 1024 MiB"
    assert large.problem.startswith("not an image in a known format")


def test_what_grows_while_it_is_read_is_cut(tmp_path, monkeypatch):
    path = paint(tmp_path / "a.png")
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    status = os.stat(path)  # noqa: PTH116
    path.write_bytes(whole)
    monkeypatch.setattr(files.os, "fstat", lambda _: status)
    assert read_file(path) == whole[:51]


def test_images_that_lie_elsewhere_are_named(root, tmp_path):
    elsewhere = paint(tmp_path / "private" / "me.png", 70)
    paint(tmp_path / "private" / "you.png", 71)
    (root / "a" / "me.png").symlink_to(elsewhere)
    (root / "b" / "album").symlink_to(tmp_path / "private")
    inside = root / "a" / "inside.png"
    inside.symlink_to(root / "a" / "0.png")
    data = load(root)
    (finding,) = [finding for finding in data.findings if "leads out" in finding["problem"]]
    assert not finding["left_out"]
    assert finding["path"] == "a/me.png"
    assert finding["problem"].startswith(f"leads out of the data's folder to {elsewhere}, as do 2 more")
    assert [path for path, _ in leading_out(root, ["a/inside.png", "a/0.png"])] == []


def test_files_that_are_no_images_are_never_shown(root, tmp_path):
    (tmp_path / "secret.txt").write_text("password: hunter2")
    (root / "a" / "x.png").symlink_to(tmp_path / "secret.txt")
    said = str(load(root).findings)
    assert "not an image in a known format" in said
    assert "hunter2" not in said


def test_files_whose_names_would_move_a_cursor_are_left_out(root):
    for name in ("\x1b[2J.png", "a\nb.png", "\x9b2J.png"):
        paint(root / "a" / name, 50)
    paint(root / "a" / "é 例.png", 51)
    data = load(root)
    assert len(data) == 9
    assert problems(data)["a/\\x1b[2J.png"].startswith("the file's name has control characters")
    assert all(path.isprintable() for path in problems(data))


def test_names_move_no_terminal(tmp_path):
    for seed in range(4):
        paint(tmp_path / "a" / f"{seed}.png", seed)
    (tmp_path / "\x1b[2Jb\n").mkdir()
    paint(tmp_path / "\x1b[2Jb\n" / "1.png", 9)
    with pytest.raises(DataError, match="has control characters, and it is a class") as caught:
        load(tmp_path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert r"\x1b[2Jb\n" in str(caught.value).replace("\\\\", "\\")


@pytest.mark.parametrize("name", ["~nobody_of_that_name/x", "x" * 300, "a\0b", "/dev/null", "/dev/null/x"])
def test_impossible_sources_get_one_line(name):
    with pytest.raises(DataError) as caught:
        find_source(name)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_csv(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"must be a folder, a \.csv or an \.npz file"):
        load(tmp_path / "labels.csv")


def test_a_mistyped_name_among_many_is_answered_at_once(tmp_path):
    for number in range(3000):
        (tmp_path / f"photos_of_summer_{number:05}").touch()
    with pytest.raises(DataError, match="no such file or folder"):
        find_source(tmp_path / "photos_of_sumer_00001")


def test_unreadable_entries_are_no_images(tmp_path):
    (tmp_path / "link").symlink_to("link")
    os.mkfifo(tmp_path / "pipe")
    assert images_in(tmp_path) == []
    with pytest.raises(DecodeError, match="a folder"):
        read_file(tmp_path)
