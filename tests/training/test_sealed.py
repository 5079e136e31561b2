"""Arrays under a seal: nothing in a file from a stranger is executed, and none takes more memory than it has bytes."""

import errno
import io
import os
import pickle
import resource
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tlkit.training.sealed import DamagedError, read_sealed, write_sealed

ARRAYS = {
    "a/0": np.arange(6, dtype="float32").reshape(2, 3),
    "a/1": np.array(5, "uint32"),
    "b": np.zeros((0, 2)),
    "c": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "d": np.array([True, False]),
}


def test_arrays_come_back_as_they_were(tmp_path):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        write_sealed(file, ARRAYS)
    found = read_sealed(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_it_is_an_ordinary_npz_file(tmp_path):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        write_sealed(file, ARRAYS)
    with np.load(path, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["a/0"], ARRAYS["a/0"])


def test_what_is_written_is_not_copied(tmp_path):
    arrays = {"a": np.zeros(2**20), "b": np.zeros((2**10, 2**10), "float32")}
    with (tmp_path / "x.npz").open("wb") as file:
        tracemalloc.start()
        try:
            write_sealed(file, arrays)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2**18


def test_a_member_that_is_another_array_breaks_the_seal(tmp_path):
    """The archive's own checksums are right: it was written so."""
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        write_sealed(file, ARRAYS)
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **arrays | {"a/1": np.array(6, "uint32")})
    with pytest.raises(DamagedError, match="its content isn't what was written"):
        read_sealed(path)


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npy(header, body=b""):
    text = (repr(header) if isinstance(header, dict) else header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)


def test_no_object_is_ever_unpickled(tmp_path):
    body = pickle.dumps(np.array([Evil(tmp_path / "executed")], dtype=object))
    archive(tmp_path / "x.npz", {"a.npy": npy({"descr": "|O", "fortran_order": False, "shape": (1,)}, body)})
    with pytest.raises(DamagedError):
        read_sealed(tmp_path / "x.npz")
    assert not (tmp_path / "executed").exists()


def plain(shape, descr="<f4"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


BOMBS = {
    "a shape": npy(plain((2**40,))),
    "a shape that overflows": npy(plain((2**62, 4))),
    "a negative shape": npy(plain((-1, -4)), bytes(16)),
    "a long dtype": npy(plain((1,), "<U1000000000")),
    "a deep header": npy("(" * 100),
    "no array": b"nonsense",
    "nothing": b"",
}


@pytest.fixture
def little_memory():
    """Lets the process take half a GiB more than it has, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("member", BOMBS.values(), ids=BOMBS)
def test_an_array_larger_than_its_file_is_refused(member, tmp_path, little_memory):
    archive(tmp_path / "x.npz", {"a.npy": member})
    with pytest.raises(DamagedError):
        read_sealed(tmp_path / "x.npz")


def test_what_is_compressed_is_refused_before_it_is_read(tmp_path):
    archive(tmp_path / "x.npz", {"a.npy": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DamagedError, match="compressed"):
        read_sealed(tmp_path / "x.npz")


def test_members_that_share_their_bytes_are_refused(tmp_path, little_memory):
    """A thousand entries of the directory that all name the same MiB."""
    archive(tmp_path / "one.npz", {"a.npy": bytes(2**20)})
    data = (tmp_path / "one.npz").read_bytes()
    end = data.rfind(b"PK\x05\x06")
    start = data.rfind(b"PK\x01\x02", 0, end)
    entry, count = data[start:end], 1000
    tail = io.BytesIO(data[end:])
    fields = bytearray(tail.getvalue())
    fields[8:10] = fields[10:12] = count.to_bytes(2, "little")
    fields[12:16] = (count * len(entry)).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(data[:start] + count * entry + bytes(fields))
    with pytest.raises(DamagedError, match="more in it than its size"):
        read_sealed(tmp_path / "x.npz")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused(make, tmp_path):
    make(tmp_path / "x.npz")
    with pytest.raises(DamagedError, match="not a file"):
        read_sealed(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EMFILE, "Too many"), MemoryError()]
)
def test_what_can_not_be_read_now_is_no_damage(error, tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        write_sealed(file, ARRAYS)

    def refuse(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(zipfile, "ZipFile", refuse)
        with pytest.raises(type(error)):
            read_sealed(path)
    assert read_sealed(path).keys() == ARRAYS.keys()
