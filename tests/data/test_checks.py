import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tlkit.data import checks
from tlkit.data.checks import cache_folder, check_files
from tlkit.data.files import MAX_BYTES


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    for i in range(5):
        Image.fromarray(np.full((8, 9), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    return [tmp_path / f"{i}.png" for i in range(6)]


@pytest.fixture
def opened(monkeypatch):
    """The paths that were really opened."""
    seen, check = [], checks._check
    monkeypatch.setattr(checks, "_check", lambda path: seen.append(path.name) or check(path))
    return seen


def test_each_file_is_opened_once_in_its_life(files, opened):
    first = check_files(files)
    assert [verdict.problem is None for verdict in first] == [True] * 5 + [False]
    assert first[0][1:3] == (9, 8)
    assert len(opened) == 6
    assert check_files(files) == first
    assert len(opened) == 6
    status = files[0].stat()
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert check_files(files) == first
    assert opened[6:] == ["0.png"]
    files[1].write_bytes(b"now something else")
    assert check_files(files)[1].problem is not None


def test_files_that_change_places_are_opened_again(files, opened):
    """Whatever their sizes and times of modification, which an archive may have set."""
    for path in files:
        os.utime(path, ns=(0, 0))
    before = [verdict.sha256 for verdict in check_files(files)]
    files[0].rename(files[0].with_name("held"))
    files[1].rename(files[0])
    files[0].with_name("held").rename(files[1])
    assert [verdict.sha256 for verdict in check_files(files)[:2]] == before[1::-1]


def test_progress_is_told_up_to_the_end(files):
    told = []
    check_files(files, progress=lambda done, total: told.append((done, total)), threads=3)
    assert told == [(i, 6) for i in range(7)]


def test_an_unwritable_or_broken_cache_is_no_error(files, monkeypatch, tmp_path, opened):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "a file"))
    assert check_files(files)[0].problem is None
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "checks.sqlite").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("TLKIT_CACHE", str(broken))
    assert check_files(files)[0].problem is None
    assert len(opened) == 12


def test_a_locked_cache_is_no_error(files, monkeypatch):
    expected = check_files(files)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0.01))
    other = connect(cache_folder() / "checks.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert check_files(files) == expected
    other.close()


def test_two_processes_share_the_cache(files):
    code = "import sys; from pathlib import Path; from tlkit.data.checks import check_files; "
    code += "print(sum(v.problem is None for v in check_files([Path(p) for p in sys.argv[1:]] * 40)))"
    command = [sys.executable, "-W", "error", "-c", code, *map(str, files)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["200"] * 3


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no space
    assert check_files([tmp_path / "huge.png"])[0].problem == "absurdly large: more than 1024 MiB"
