"""`tlkit cache` shows and clears the feature store, and loads no engine for it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tlkit.training.sizes import format_size
from tlkit.training.store import DiskStore


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))


def keep(what, rows):
    entry = DiskStore().entry({"what": what, "cut": what}, rows, (5,), rows)
    entry.write(0, np.zeros((rows, 5), "float32"))
    return entry


def test_an_empty_cache_is_one_line(tlkit, tmp_path):
    status, out, err = tlkit("cache")
    assert (status, err) == (0, "")
    assert out == f"the feature store in {tmp_path / 'cache' / 'features'} is empty\n"
    assert not (tmp_path / "cache").exists()


def test_entries_are_listed_the_last_used_first(tlkit, tmp_path):
    old = keep("resnet50, pooled, view 0 of [flowers]", 1234)
    os.utime(old.path / "entry.json", (0, 0))
    keep("vgg16, block4, view 1 of ants", 10)
    status, out, err = tlkit("cache")
    assert (status, err) == (0, "")
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0].startswith(f"{tmp_path / 'cache' / 'features'}: 2 entries, 25.")
    assert "KB of up to" in lines[0]
    assert lines[1].split() == ["features", "of", "images", "size", "last", "used"]
    assert lines[3].startswith("vgg16, block4, view 1 of ants")
    assert lines[4].startswith("resnet50, pooled, view 0 of [flowers]")
    assert "1,234" in lines[4]
    assert "19" in lines[4].split()[-2]


def test_json_is_one_document(tlkit, tmp_path):
    entry = keep("vgg16, pooled", 10)
    status, out, _ = tlkit("cache", "--json")
    assert status == 0
    document = json.loads(out)
    (listed,) = document["entries"]
    assert document["folder"] == str(tmp_path / "cache" / "features")
    assert document["bytes"] == listed["bytes"] > entry.bytes
    assert document["limit_bytes"] > 0
    assert (listed["what"], listed["images"], listed["row_shape"]) == ("vgg16, pooled", 10, [5])
    assert (listed["path"], listed["damaged"]) == (str(entry.path), False)


def test_clear_removes_everything_and_says_how_much(tlkit):
    keep("a", 10)
    keep("b", 10)
    total = DiskStore().used()
    status, out, err = tlkit("cache", "--clear")
    assert (status, err) == (0, "")
    assert out.startswith(f"removed 2 entries, {format_size(total)}, from ")
    assert DiskStore().entries() == []
    keep("c", 10)
    status, out, _ = tlkit("cache", "--clear", "--json")
    assert json.loads(out)["removed"]["entries"] == 1
    assert 0 < json.loads(out)["removed"]["bytes"] < total


def test_a_damaged_entry_is_listed_and_cleared(tlkit):
    entry = keep("a", 10)
    (entry.path / "entry.json").write_text("{")
    status, out, _ = tlkit("cache")
    assert status == 0
    assert f"entry {entry.name[:12]} (damaged)" in out
    (listed,) = json.loads(tlkit("cache", "--json")[1])["entries"]
    assert (listed["damaged"], listed["images"]) == (True, None)
    assert tlkit("cache", "--clear")[1].startswith("removed 1 entry, ")


@pytest.mark.parametrize("options", [(), ("--json",), ("--clear",)], ids=" ".join)
def test_a_cache_that_cannot_be_read_is_the_users_to_mend(tlkit, tmp_path, options):
    (tmp_path / "cache").write_text("a file")
    status, out, err = tlkit("cache", *options)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "Not a directory" in err
    assert "TLKIT_CACHE" in err


def test_no_engine_is_loaded(tmp_path):
    code = "\n".join(
        [
            "import sys, tlkit.cli",
            "sys.argv = ['tlkit', 'cache']",
            "try: tlkit.cli.main()",
            "except SystemExit as stopped: assert stopped.code == 0, stopped.code",
            "assert 'tlkit.training.store' in sys.modules",
            "assert not {'tensorflow', 'keras', 'cv2'} & set(sys.modules)",
        ]
    )
    environment = {**os.environ, "TLKIT_CACHE": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
