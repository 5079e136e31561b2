"""The feature store gives back exactly what was kept, or says that it can't: whatever fails, whoever else is there."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from small_entries import FEATURES, KEY, ROOM, ROW_SHAPE, ROWS, SHARD_ROWS, entry_of, fill, holds_the_features

from tlkit.training import store as store_module
from tlkit.training.store import DiskStore, MemoryStore, StoreError, default_size


def set_last_used(entry, day):
    moment = datetime(2026, 1, day).timestamp()
    os.utime(entry.path / "entry.json", (moment, moment))


@pytest.fixture
def notes():
    return []


@pytest.fixture
def store(tmp_path, notes):
    return DiskStore(tmp_path / "store", 10**6, notes.append)


@pytest.fixture(params=["disk", "memory"])
def any_store(request, store):
    return store if request.param == "disk" else MemoryStore(10**6)


def test_rows_come_back_bit_for_bit(any_store):
    entry = entry_of(any_store)
    assert (entry.num_shards, entry.bytes) == (3, 240)
    assert entry.missing() == [0, 1, 2]
    assert entry.open() is None
    entry.make_room()
    fill(entry)
    assert entry.missing() == []
    rows = entry.open()
    assert (rows.shape, rows.dtype) == ((ROWS, *ROW_SHAPE), np.float32)
    assert rows.tobytes() == FEATURES.tobytes()
    assert not rows.flags.writeable
    assert holds_the_features(entry_of(any_store))
    assert entry_of(any_store, size=33).missing() == [0, 1, 2]


def test_what_is_kept_is_a_copy(any_store):
    entry, rows = entry_of(any_store), FEATURES[:4].copy()
    entry.write(0, rows)
    rows[:] = 0
    fill(entry)
    assert holds_the_features(entry)


@pytest.mark.parametrize(
    ("shard", "array"),
    [(0, FEATURES[:3]), (2, FEATURES[:4]), (3, FEATURES[:4]), (-1, FEATURES[:2]), (0, FEATURES[:4].astype("float64"))],
)
def test_what_is_no_shard_is_refused(any_store, shard, array):
    with pytest.raises(ValueError, match="shard"):
        entry_of(any_store).write(shard, array)


def test_no_rows_make_no_shards(any_store):
    entry = any_store.entry(KEY, 0, (5,), 4)
    entry.make_room()
    assert (entry.num_shards, entry.bytes, entry.missing(), entry.open().shape) == (0, 0, [], (0, 5))


def test_an_entry_is_told_by_its_key_whatever_its_order_and_by_its_shape(store):
    turned = dict(reversed(KEY.items()))
    names = [entry_of(store).name, store.entry(turned, ROWS, ROW_SHAPE, SHARD_ROWS).name]
    assert names[0] == names[1]
    assert store.entry({**KEY, "what": "in other words"}, ROWS, ROW_SHAPE, SHARD_ROWS).name == names[0]
    others = [(KEY, 11, (3, 2), 4), (KEY, 10, (6,), 4), (KEY, 10, (3, 2), 5), ({**KEY, "more": ""}, 10, (3, 2), 4)]
    assert len({names[0], *(store.entry(*other).name for other in others)}) == 5


def test_asking_for_an_entry_touches_nothing(store):
    entry = entry_of(store)
    entry.missing()
    entry.open()
    assert store.entries() == []
    assert not store.folder.exists()


def test_the_rows_are_an_ordinary_npy_file(store):
    entry = fill(entry_of(store))
    assert np.array_equal(np.load(entry.path / "rows.npy", mmap_mode="r", allow_pickle=False), FEATURES)
    assert (entry.path / "rows.npy").stat().st_size == entry.file_bytes


def test_any_flipped_byte_is_found(store, notes):
    """In the rows, one shard is computed anew; in the header, all are; in a digest, its shard."""
    entry = fill(entry_of(store))
    path = entry.path / "rows.npy"
    whole = path.read_bytes()
    rows = len(whole) - 240 - 3 * 32
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        opened, missing = entry.open(), entry_of(store).missing()
        assert opened is None, position
        if position < rows:
            assert missing == [0, 1, 2]
        else:
            shard = min(2, (position - rows) // 96) if position < rows + 240 else (position - rows - 240) // 32
            assert missing == [shard]
            assert notes.pop() == f"features: 1 of 3 parts of {KEY['what']} damaged on disk; computed anew"
            assert not notes
        entry.make_room()
        assert notes == ([f"features: all of {KEY['what']} damaged on disk; computed anew"] if position < rows else [])
        notes.clear()
        assert holds_the_features(fill(entry)), position


def test_a_file_of_any_other_length_is_found(store):
    entry = fill(entry_of(store))
    path = entry.path / "rows.npy"
    whole = path.read_bytes()
    for damaged in (*(whole[:length] for length in range(len(whole))), whole + b"\0", whole * 2):
        path.write_bytes(damaged)
        assert entry.open() is None, len(damaged)
        entry.make_room()
        assert entry.missing() == [0, 1, 2]
        assert holds_the_features(fill(entry))


def test_all_damaged_shards_are_found_at_once_and_told_in_one_line(store, notes):
    entry = fill(entry_of(store))
    with (entry.path / "rows.npy").open("r+b") as file:
        for row in (0, 9):
            file.seek(-3 * 32 - 240 + row * 24, os.SEEK_END)
            file.write(b"damaged")
    assert entry.missing() == []
    assert entry.open() is None
    assert entry.missing() == [0, 2]
    assert notes == [f"features: 2 of 3 parts of {KEY['what']} damaged on disk; computed anew"]


def test_shards_in_each_others_place_are_found(store):
    """Whole shards, but not these: the digest knows their number, and the name of their entry."""
    entry = fill(entry_of(store))
    path = entry.path / "rows.npy"
    whole = path.read_bytes()
    head, rows, digests = whole[: -240 - 96], whole[-240 - 96 : -96], whole[-96:]
    path.write_bytes(head + rows[96:192] + rows[:96] + rows[192:] + digests[32:64] + digests[:32] + digests[64:])
    assert entry.open() is None
    assert entry.missing() == [0, 1]
    other = entry_of(store, number=1)
    other.make_room()
    shutil.copy(fill(entry).path / "rows.npy", other.path / "rows.npy")
    assert other.open() is None


def test_a_file_that_cannot_be_read_is_a_store_error(store):
    entry = fill(entry_of(store))
    path = entry.path / "rows.npy"
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        entry.open()
    assert entry.missing() == [0, 1, 2]
    with pytest.raises(StoreError, match="Is a directory"):
        entry.write(0, FEATURES[:4])


def test_an_open_entry_holds_one_file(store):
    entry = fill(entry_of(store))
    before = len(list(Path("/proc/self/fd").iterdir()))
    rows = entry.open()
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    assert np.array_equal(rows, FEATURES)


def old_entries(folder, numbers):
    """Fill entries, the first last used on the 1st of January and so on."""
    entries = [fill(entry_of(DiskStore(folder, 10**6), number=number)) for number in numbers]
    for day, entry in enumerate(entries, start=1):
        set_last_used(entry, day)
    return entries


def test_the_least_recently_used_goes_first(tmp_path, notes):
    entries = old_entries(tmp_path, range(4))
    assert entry_of(DiskStore(tmp_path, 10**6), number=0).open() is not None  # now it is the last used
    store = DiskStore(tmp_path, 3 * ROOM, notes.append)
    entry_of(store, number=4).make_room()
    assert [entry.path.exists() for entry in entries] == [True, False, False, True]
    assert len(notes) == 2
    assert "to make room" in notes[0]


def test_what_this_store_uses_stays_and_what_it_looked_at_goes(tmp_path):
    entries = old_entries(tmp_path, range(3))
    store = DiskStore(tmp_path, 3 * ROOM)
    for number in (0, 1):
        entry_of(store, number=number).claim()
    rows = entry_of(store, number=2).open()
    for day, entry in enumerate(entries, start=1):
        set_last_used(entry, day)
    entry_of(store, number=3).make_room()
    assert [entry.path.exists() for entry in entries] == [True, True, False]
    with pytest.raises(StoreError, match="limit"):
        entry_of(store, number=4).make_room()
    assert np.array_equal(rows, FEATURES)


def test_an_entry_larger_than_the_limit_evicts_nothing(tmp_path):
    entries = old_entries(tmp_path, range(2))
    store = DiskStore(tmp_path, 3 * ROOM)
    with pytest.raises(StoreError, match=r"^tiny, .* takes 4\.0 MB, the limit of .* leaves 2\.1 KB$"):
        store.entry(KEY, 10**6, (), 1000).make_room()
    assert all(entry.path.exists() for entry in entries)


def test_what_is_reserved_counts_before_it_is_written(tmp_path):
    store = DiskStore(tmp_path, 2 * ROOM)
    first, second, third = (entry_of(store, number=number) for number in range(3))
    first.make_room()
    second.make_room()
    second.make_room()
    with pytest.raises(StoreError):
        third.make_room()
    shutil.rmtree(first.path)
    first.path.write_text("in the way")
    with pytest.raises(StoreError, match="File exists"):
        first.write(0, FEATURES[:4])
    third.make_room()  # what failed claims nothing any more


def test_a_full_disk_evicts_only_where_that_helps(tmp_path, monkeypatch):
    entries = old_entries(tmp_path, range(3))
    size = DiskStore(tmp_path, 10**6).used() // 3
    disk = 3 * size + 100
    monkeypatch.setattr(store_module, "free_bytes", lambda folder: disk - DiskStore(folder, 0).used())
    store = DiskStore(tmp_path, 10**9)
    with pytest.raises(StoreError, match=r"the disk of .* leaves 100 B"):
        store.entry(KEY, 10**6, (), 1000).make_room()
    assert all(entry.path.exists() for entry in entries)
    entry_of(store, number=3).make_room()
    assert [entry.path.exists() for entry in entries] == [False, True, True]


def test_a_disk_whose_space_does_not_come_back_is_a_store_error(tmp_path, monkeypatch):
    old_entries(tmp_path, range(2))
    monkeypatch.setattr(store_module, "free_bytes", lambda folder: 100)  # the deleted files are still mapped somewhere
    with pytest.raises(StoreError, match="the disk of"):
        entry_of(DiskStore(tmp_path, 10**9), number=2).make_room()


def test_arrays_outlive_their_entry(store):
    rows = fill(entry_of(store)).open()
    assert store.clear()[0] == 1
    assert np.array_equal(rows, FEATURES)


DAMAGED = {
    "empty": b"",
    "cut off": b'{"key": {"what": "tiny',
    "no text": b"\xff\xfe\0",
    "a list": b"[1, 2]",
    "not a number": b'{"key": NaN, "rows": 1, "row_shape": [], "shard_rows": 1}',
    "of another entry": b'{"key": {}, "rows": 1, "row_shape": [], "shard_rows": 1}',
    "deep": b"[" * 10**5,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_description_is_listed_mended_and_cleared(store, content):
    entry = fill(entry_of(store))
    (entry.path / "entry.json").write_bytes(content)
    (info,) = store.entries()
    assert (info.path, info.key, info.rows, info.row_shape) == (entry.path, None, None, None)
    assert info.what == f"entry {entry.name[:12]}"
    assert holds_the_features(entry)
    assert [info.key for info in store.entries()] == [KEY]
    (entry.path / "entry.json").write_bytes(content)
    assert store.clear()[0] == 1
    assert store.entries() == []


def test_entries_tell_what_they_are_the_last_used_first(tmp_path):
    entries = old_entries(tmp_path, range(3))
    infos = DiskStore(tmp_path).entries()
    assert [info.path for info in infos] == [entry.path for entry in reversed(entries)]
    info = infos[0]
    assert (info.key, info.rows, info.row_shape) == ({**KEY, "number": 2}, ROWS, ROW_SHAPE)
    assert info.what == KEY["what"]
    assert info.bytes == sum(path.stat().st_size for path in entries[2].path.iterdir())
    assert info.last_used.replace(tzinfo=None) == datetime(2026, 1, 3)


def test_names_that_are_no_valid_text_are_kept_and_shown(store):
    entry = fill(entry_of(store, what="photos in \udcff\n of mine"))
    assert [info.key for info in store.entries()] == [entry.key]
    assert store.entries()[0].what == "photos in \\udcff of mine"


def test_clear_leaves_strangers_alone(store):
    old, new = (fill(entry_of(store, number=number)) for number in range(2))
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "folder").mkdir()
    entries, size = store.clear()
    assert (entries, old.path.exists(), new.path.exists()) == (2, False, False)
    assert size > 2 * old.bytes
    assert sorted(path.name for path in store.folder.iterdir()) == ["folder", "notes.txt"]


def test_entries_in_memory_share_their_arrays_up_to_a_limit():
    store = MemoryStore(500)
    first, second, third = (entry_of(store, number=number) for number in range(3))
    assert (first.missing(), first.open(), store.used()) == ([0, 1, 2], None, 0)
    first.make_room()
    fill(first)
    assert np.shares_memory(entry_of(store, number=0).open(), first.open())
    second.make_room()
    assert store.used() == 480
    with pytest.raises(StoreError, match=r"takes 240 B, the limit in memory leaves 20 B$"):
        third.make_room()
    assert store.used() == 480


def test_memory_that_is_exhausted_is_a_store_error():
    with pytest.raises(StoreError, match="memory is exhausted"):
        MemoryStore(10**30).entry(KEY, 2**40, (1000, 1000), 4).make_room()


def test_the_room_of_a_store_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        DiskStore(tmp_path / "file" / "store").room()
    assert 0 < DiskStore(tmp_path / "store", 10**4).room() <= 10**4


def test_an_unset_limit_is_a_quarter_of_what_the_store_could_have(tmp_path, monkeypatch):
    entries = old_entries(tmp_path / "store", range(1))
    held = sum(path.stat().st_size for path in entries[0].path.iterdir())
    usage = shutil._ntuple_diskusage(10**9, 0, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert default_size(tmp_path / "store") == (10**6 + held) // 4
    assert DiskStore(tmp_path / "store").max_bytes == (10**6 + held) // 4


def test_the_limit_of_a_store_that_does_not_exist_yet_is_known(tmp_path):
    assert default_size(tmp_path / "not" / "yet") > 0
    (tmp_path / "file").touch()
    assert default_size(tmp_path / "file" / "store") == 0


def test_the_default_folder_is_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    entry = fill(entry_of(DiskStore()))
    assert json.loads((tmp_path / "features" / entry.name / "entry.json").read_text())["key"] == KEY
