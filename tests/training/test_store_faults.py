"""Whatever the system refuses and whoever is killed, a store holds whole shards or none, and says why in one line."""

import errno
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_entries import FEATURES, KEY, ROOM, ROW_SHAPE, ROWS, SHARD_ROWS, entry_of, fill, holds_the_features

from tlkit.training.store import DiskStore, StoreError

CHANGING_CALLS = ("mkdir", "open", "chmod", "replace", "rename", "unlink", "rmdir", "posix_fallocate", "utime", "fsync")
READING_CALLS = ("scandir", "listdir", "stat")


def temporaries(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.fixture
def store(tmp_path):
    return DiskStore(tmp_path / "store", 10**6)


def inject(patch, step):
    """Call `step(name)` before each call to the system, and before each write to and after the end of each file."""

    class File:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            step("write")
            return self.file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()
            step("close")

    def wrap(name, function):
        def wrapped(*args, **kwargs):
            step(name)
            return function(*args, **kwargs)

        return wrapped

    for name in (*CHANGING_CALLS, *READING_CALLS):
        patch.setattr(os, name, wrap(name, getattr(os, name)))
    patch.setattr(shutil, "disk_usage", wrap("disk_usage", shutil.disk_usage))
    opened = io.open
    patch.setattr(io, "open", lambda *args, **kwargs: File(opened(*args, **kwargs)))


def run_with_fault(monkeypatch, action, fail_at, code):
    """Let call number `fail_at` to the system fail while `action` runs; return its name and whether StoreError came."""
    numbers, failed = itertools.count(), []

    def step(name):
        if next(numbers) == fail_at:
            failed.append(name)
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        inject(patch, step)
        try:
            action()
        except StoreError:
            return failed[0], True
    return failed[0] if failed else None, False


CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_write_fails_cleanly_wherever_the_system_refuses(tmp_path, monkeypatch, code):
    refused = set()
    for fail_at in itertools.count():
        entry = entry_of(DiskStore(tmp_path / str(fail_at), 10**6))
        failed, raised = run_with_fault(monkeypatch, lambda entry=entry: entry.write(0, FEATURES[:4]), fail_at, code)
        if raised:
            refused.add(failed)
            assert entry.missing() in ([0, 1, 2], [1, 2])  # the latter if only closing failed
        else:
            assert entry.missing() == [1, 2]
        assert not temporaries(tmp_path) or failed == "unlink"
        assert holds_the_features(fill(entry))
        if failed is None:
            break
    assert refused >= {"mkdir", "open", "posix_fallocate", "write", "close", "chmod", "replace"}


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_make_room_fails_cleanly_wherever_the_system_refuses(tmp_path, monkeypatch, code):
    refused = set()
    for fail_at in itertools.count():
        folder = tmp_path / str(fail_at)
        old = fill(entry_of(DiskStore(folder, 10**6), number=0))
        (folder / f".{old.name}-{'0' * 32}").mkdir()  # a killed process left it
        store = DiskStore(folder, ROOM)
        entry = entry_of(store, number=1)
        failed, raised = run_with_fault(monkeypatch, entry.make_room, fail_at, code)
        if raised:
            refused.add(failed)
        if old.path.exists():
            assert holds_the_features(old)
        entry.make_room()
        assert holds_the_features(fill(entry))
        assert store.used() <= ROOM
        if failed is None:
            break
    assert refused >= {
        "scandir",
        "stat",
        "rename",
        "rmdir",
        "unlink",
        "disk_usage",
        "mkdir",
        "open",
        "write",
        "replace",
    }


def test_a_folder_evicted_at_any_moment_is_made_again(tmp_path, monkeypatch):
    for evict_at in itertools.count():
        store = DiskStore(tmp_path / str(evict_at), 10**6)
        entry, other, numbers = entry_of(store), DiskStore(store.folder, 10**6), itertools.count()

        def step(_name, numbers=numbers, other=other, evict_at=evict_at):
            if next(numbers) == evict_at:
                other.clear()  # its own calls come here too, with later numbers

        with monkeypatch.context() as patch:
            inject(patch, step)
            entry.make_room()
            entry.write(0, FEATURES[:4])
        assert entry.missing() in ([1, 2], [0, 1, 2])
        assert holds_the_features(fill(entry))
        if next(numbers) <= evict_at:
            break


def test_a_folder_that_is_evicted_again_and_again_is_given_up(store, monkeypatch):
    def vanish(*_args, **_kwargs):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    entry = entry_of(store)
    monkeypatch.setattr(os, "posix_fallocate", vanish)
    with pytest.raises(StoreError, match="No such file"):
        entry.write(0, FEATURES[:4])


def test_space_is_claimed_before_anything_is_written(store, monkeypatch):
    claimed = []
    monkeypatch.setattr(os, "posix_fallocate", lambda handle, start, size: claimed.append((start, size)))
    entry = fill(entry_of(store))
    assert claimed == [(0, (entry.path / "rows.npy").stat().st_size)]


def test_a_file_system_that_cannot_claim_space_is_written_all_the_same(store, monkeypatch):
    def unsupported(*_args):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert holds_the_features(fill(entry_of(store)))


@pytest.fixture
def read_only(monkeypatch):
    """Make every call that would change a file system fail, as on a read-only mount; root obeys no file modes."""

    def start():
        def refuse(*_args, **_kwargs):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        def open_to_read(path, flags, *args, opened=os.open, **kwargs):
            return refuse() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else opened(path, flags, *args, **kwargs)

        for name in CHANGING_CALLS:
            monkeypatch.setattr(os, name, refuse)
        monkeypatch.setattr(os, "open", open_to_read)

    return start


def test_a_read_only_store_is_good_for_reading(store, read_only):
    entry = fill(entry_of(store))
    read_only()
    assert holds_the_features(entry_of(store))
    assert [info.key for info in store.entries()] == [KEY]
    with pytest.raises(StoreError, match="Read-only"):
        entry_of(store, number=1).make_room()
    with pytest.raises(StoreError, match="Read-only"):
        entry_of(store, number=1).write(0, FEATURES[:4])
    with pytest.raises(StoreError, match="Read-only"):
        store.clear()
    assert holds_the_features(entry)


def test_a_damaged_shard_of_a_read_only_store_is_missing(store, read_only, monkeypatch):
    entry = fill(entry_of(store))
    with (entry.path / "rows.npy").open("r+b") as file:
        file.seek(-3 * 32 - 240 + 5 * 24, os.SEEK_END)
        file.write(b"damaged")
    read_only()
    opened = io.open

    def refuse_to_change(path, mode="r", *args, **kwargs):
        if "+" in mode or "w" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(io, "open", refuse_to_change)
    notes = []
    store.note = notes.append
    for _ in range(3):
        assert entry.open() is None
        assert entry.missing() == [1]
    assert len(notes) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_store_error(store):
    store.folder.mkdir()
    store.folder.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        entry_of(store).make_room()


def test_a_store_where_a_file_lies_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = DiskStore(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="Not a directory"):
        store.entries()
    with pytest.raises(StoreError, match="Not a directory"):
        entry_of(store).make_room()
    with pytest.raises(StoreError, match="Not a directory"):
        entry_of(store).write(0, FEATURES[:4])
    assert entry_of(store).open() is None


def start(*lines, **streams):
    """Start a Python process that runs `lines`; `streams` are those of `subprocess.Popen`."""
    prelude = ["import os, sys, time, io, numpy as np", "from tlkit.training.store import DiskStore"]
    return subprocess.Popen([sys.executable, "-c", "\n".join([*prelude, *lines])], text=True, **streams)


FILL = """
store = DiskStore({folder!r}, 10**6)
entry = store.entry({key!r}, 2000, (100,), 100)
rows = np.arange(200000, dtype="float32").reshape(2000, 100)
entry.make_room()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    for shard in range(20):
        entry.write(shard, rows[100 * shard :][:100])
"""


def test_two_processes_fill_the_same_entry_at_once(tmp_path):
    code = FILL.format(folder=str(tmp_path), key=KEY)
    processes = [start(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    notes = []
    entry = DiskStore(tmp_path, 10**6, notes.append).entry(KEY, 2000, (100,), 100)
    while any(process.poll() is None for process in processes):
        entry.open()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    expected = np.arange(200000, dtype="float32").reshape(2000, 100)
    assert np.array_equal(entry.open(), expected)
    assert not notes  # what a reader met meanwhile was whole or absent
    assert not temporaries(tmp_path)


STALL = """
def stall(*args, **kwargs):
    print("here", flush=True)
    time.sleep(600)
class Half:
    # A file whose write number `last` gets no further than halfway.
    def __init__(self, file, last): self.file, self.last = file, last
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, data):
        data = memoryview(data).cast("B")
        self.last -= 1
        self.file.write(data[: len(data) // 2] if self.last == 0 else data)
        self.file.flush()
        if self.last == 0: stall()
def halfway(last):
    opened = io.open
    def open_half(path, mode="r", *more):
        file = opened(path, mode, *more)
        return Half(file, last) if mode == "r+b" else file
    io.open = open_half
"""
MOMENTS = {
    "describing": ("os.replace = stall", 1),
    "before the space is claimed": ("entry._describe(); os.posix_fallocate = stall", 1),
    "before the file is renamed": ("entry._describe(); os.replace = stall", 1),
    "halfway through the rows": ("entry.make_room(); halfway(2)", 0),
    "halfway through the digest": ("entry.make_room(); halfway(3)", 0),
}


@pytest.mark.parametrize(("moment", "num_temporaries"), MOMENTS.values(), ids=MOMENTS)
def test_a_process_killed_while_it_writes_leaves_no_shard(tmp_path, moment, num_temporaries):
    process = start(
        STALL,
        f"store = DiskStore({str(tmp_path)!r}, 10**6)",
        f"entry = store.entry({KEY!r}, {ROWS}, {ROW_SHAPE}, {SHARD_ROWS})",
        moment,
        "entry.write(0, np.zeros((4, 3, 2), 'float32'))",
        stdout=subprocess.PIPE,
    )
    with process.stdout:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = temporaries(tmp_path)
    assert len(left) == num_temporaries
    store = DiskStore(tmp_path, 10**6)
    entry = entry_of(store)
    assert entry.open() is None
    entry.make_room()
    assert temporaries(tmp_path) == left  # a process could still be writing them
    assert {1, 2} <= set(entry.missing())
    fill(entry)
    if entry.open() is None:  # half a digest is found on opening
        assert entry.missing() == [0]
    assert holds_the_features(fill(entry))
    for path in left:
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    entry_of(store, number=1).make_room()
    assert not temporaries(tmp_path)
    assert holds_the_features(entry)


def test_a_process_killed_while_it_evicts_leaves_what_the_next_one_deletes(tmp_path):
    old = fill(entry_of(DiskStore(tmp_path, 10**6), number=0))
    process = start(
        STALL,
        "import shutil; shutil.rmtree = stall",
        f"store = DiskStore({str(tmp_path)!r}, {ROOM})",
        f"store.entry({KEY!r}, {ROWS}, {ROW_SHAPE}, {SHARD_ROWS}).make_room()",
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not old.path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    store = DiskStore(tmp_path, ROOM)
    assert store.entries() == []
    entry_of(store).make_room()
    assert [path.name for path in tmp_path.iterdir()] == [entry_of(store).name]
