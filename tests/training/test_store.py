"""The feature store gives back exactly what was kept, or says that it can't: whatever fails, whoever else is there."""

import json
import os
import shutil
from datetime import datetime

import numpy as np
import pytest

from tlkit.training import store as store_module
from tlkit.training.store import DiskStore, MemoryStore, StoreError, default_size

ROWS, ROW_SHAPE, SHARD_ROWS = 10, (3, 2), 4
KEY = {"what": "tiny, pooled, view 0 of photos", "weights": "abc", "size": 32}
FEATURES = np.random.default_rng(0).normal(size=(ROWS, *ROW_SHAPE)).astype("float32")
ROOM = 1000  # bytes: one entry fits, `entry.json` included, and two do not


def entry_of(store, **key):
    return store.entry({**KEY, **key}, ROWS, ROW_SHAPE, SHARD_ROWS)


def fill(entry):
    for shard in entry.missing():
        entry.write(shard, FEATURES[shard * SHARD_ROWS :][:SHARD_ROWS])
    return entry


def holds_the_features(entry):
    shards = entry.open()
    return shards is not None and np.array_equal(np.concatenate(shards), FEATURES)


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
    shards = entry.open()
    assert [shard.shape for shard in shards] == [(4, 3, 2), (4, 3, 2), (2, 3, 2)]
    assert np.concatenate(shards).tobytes() == FEATURES.tobytes()
    assert not any(shard.flags.writeable for shard in shards)
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
    assert (entry.num_shards, entry.bytes, entry.missing(), entry.open()) == (0, 0, [], [])


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


def test_a_shard_is_an_ordinary_npy_file(store):
    entry = fill(entry_of(store))
    rows = np.load(entry.path / "00002.npy", mmap_mode="r", allow_pickle=False)
    assert np.array_equal(rows, FEATURES[8:])
    assert sum(path.stat().st_size for path in entry.path.glob("*.npy")) == entry.file_bytes


def test_any_flipped_byte_is_found(store, notes):
    entry = fill(entry_of(store))
    path = entry.path / "00001.npy"
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert entry.open() is None, position
        assert entry.missing() == [1]
        assert notes.pop() == f"features: 00001 of {KEY['what']} is damaged and is computed anew"
        assert not notes
    assert not path.exists()
    assert holds_the_features(fill(entry))


def test_a_shard_of_any_other_length_is_found(store):
    entry = fill(entry_of(store))
    path = entry.path / "00002.npy"
    whole = path.read_bytes()
    for damaged in (*(whole[:length] for length in range(len(whole))), whole + b"\0", whole * 2):
        path.write_bytes(damaged)
        assert entry.open() is None, len(damaged)
        assert entry.missing() == [2]
    assert holds_the_features(fill(entry))


def test_all_damaged_shards_are_found_at_once_and_before_missing_ones_are_computed(store):
    entry = fill(entry_of(store))
    for shard in (0, 2):
        (entry.path / f"0000{shard}.npy").write_bytes(b"")
    (entry.path / "00001.npy").unlink()
    assert entry.missing() == [1]
    assert entry.open() is None
    assert entry.missing() == [0, 1, 2]


def test_a_shard_that_cannot_be_read_is_computed_anew_but_not_deleted(store, notes):
    entry = fill(entry_of(store))
    path = entry.path / "00000.npy"
    path.unlink()
    path.mkdir()
    assert entry.open() is None
    assert entry.missing() == [0]
    assert path.is_dir()
    assert "can't be read" in notes[0]


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


def test_what_this_store_handed_out_stays(tmp_path):
    entries = old_entries(tmp_path, range(3))
    store = DiskStore(tmp_path, 3 * ROOM)
    arrays = entry_of(store, number=0).open()
    entry_of(store, number=1)
    set_last_used(entries[0], 1)
    entry_of(store, number=3).make_room()
    assert [entry.path.exists() for entry in entries] == [True, True, False]
    with pytest.raises(StoreError, match="limit"):
        entry_of(store, number=4).make_room()
    assert np.array_equal(np.concatenate(arrays), FEATURES)


def test_an_entry_larger_than_the_limit_evicts_nothing(tmp_path):
    entries = old_entries(tmp_path, range(2))
    store = DiskStore(tmp_path, 3 * ROOM)
    with pytest.raises(StoreError, match=r"^tiny, .* takes 4\.0 MB, the limit of .* leaves 3\.0 KB$"):
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
    shards = fill(entry_of(store)).open()
    assert store.clear()[0] == 1
    assert np.array_equal(np.concatenate(shards), FEATURES)


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


def test_clear_can_spare_what_was_used_lately_and_leaves_strangers_alone(store):
    old, new = (fill(entry_of(store, number=number)) for number in range(2))
    set_last_used(old, 1)
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "folder").mkdir()
    entries, size = store.clear(older_than_days=7)
    assert (entries, old.path.exists(), new.path.exists()) == (1, False, True)
    assert size > old.bytes
    store.clear()
    assert sorted(path.name for path in store.folder.iterdir()) == ["folder", "notes.txt"]


def test_entries_in_memory_share_their_arrays_up_to_a_limit():
    store = MemoryStore(500)
    first, second, third = (entry_of(store, number=number) for number in range(3))
    first.make_room()
    fill(first)
    assert entry_of(store, number=0).open()[0] is first.open()[0]
    second.make_room()
    assert store.used() == 480
    with pytest.raises(StoreError, match=r"takes 240 B, the limit in memory leaves 20 B$"):
        third.make_room()
    assert store.used() == 480
    store.forget(keep_keys=[second.key])
    assert first.missing() == [0, 1, 2]
    assert store.used() == 240
    third.make_room()
    store.forget()
    assert store.used() == 0


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
