"""Weights files with any bytes changed: read, or refused in one line, never with more memory than they are worth."""

import io
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
from damage import damaged
from hypothesis import example, given, settings
from small_files import hdf5, pth

from tlkit.errors import WeightsError
from tlkit.models import hdf5 as reader
from tlkit.models.hdf5 import read_hdf5
from tlkit.models.pth import MAGIC_NUMBER, PROTOCOL, parse_pth

FORMS = [hdf5(), hdf5(legacy=True), hdf5(chunks=(2, 2), compression="gzip", shuffle=True)]


def read_all(content):
    """Return the arrays of an HDF5 file."""
    return [array.read() for _, array in read_hdf5(content, "file.h5").walk()]


def line_or_arrays(read):
    """Return what `read` returns, or the line with which it refuses."""
    try:
        return read()
    except WeightsError as error:
        return str(error)


@settings(deadline=None)
@given(damaged(FORMS))
@example(reader.SIGNATURE)  # found by the fuzzer: nothing after the signature
def test_a_damaged_hdf5_file_is_read_or_refused(content):
    said = line_or_arrays(lambda: read_all(content))
    if isinstance(said, str):
        assert "\n" not in said
    else:
        assert sum(array.nbytes for array in said) <= max(reader.SMALL, reader.LARGEST_PACKING * len(content))


def message(kind, data):
    data = data.ljust(-(-len(data) // 8) * 8, b"\0")
    return struct.pack("<HHB3x", kind, len(data), 0) + data


def header(*messages):
    """Return an object header of HDF5."""
    body = b"".join(messages)
    return struct.pack("<BBHII4x", 1, 0, len(messages), 1, len(body)) + body


def whole_file(parts, size=0):
    """Return an HDF5 file whose root is at byte 96, with other parts at their places."""
    content = bytearray(max([size, *(at + len(part) for at, part in parts.items())]))
    content[:96] = (reader.SIGNATURE + struct.pack("<B4x2s9xQ", 0, b"\x08\x08", 0)).ljust(64, b"\0") + (
        struct.pack("<Q", 96).ljust(32, b"\0")
    )
    for at, part in parts.items():
        content[at : at + len(part)] = part
    return bytes(content)


def group(tree, heap, *attributes):
    return header(*attributes, message(reader.SYMBOL_TABLE, struct.pack("<QQ", tree, heap)))


def names_of_one_long_text(length=100_000, count=4000):
    space = struct.pack("<BBBBQ", 2, 1, 0, 1, count)
    kind = struct.pack("<BB2xI", 0x19, 1, 16)
    head = struct.pack("<BBHHH", 3, 0, 12, len(kind), len(space)) + b"\0layer_names\0" + kind + space
    names = message(reader.ATTRIBUTE, head + struct.pack("<4xQI", 80_000, 1) * count)
    heap = b"GCOL\1\0\0\0" + struct.pack("<Q", 32 + length) + struct.pack("<H6xQ", 1, length) + b"a" * length
    return whole_file({96: group(70_000, 70_100, names), 70_000: b"SNOD\1\0\0\0", 80_000: heap,
                       70_100: struct.pack("<4s4xQQQ", b"HEAP", 8, 0, 70_100)})  # fmt: skip


def groups_that_share_one_heap(size=2**23, depth=31):
    parts, step, heap = {}, 96, 8192
    for number in range(depth + 1):
        at = 96 + number * step
        parts[at] = group(at + 40, heap)
        link = struct.pack("<QQI", 32, at + step, 0) if number < depth else b""
        parts[at + 40] = struct.pack("<4sBBH", b"SNOD", 1, 0, number < depth) + link
    parts[heap] = struct.pack("<4s4xQQQ", b"HEAP", size, 0, 0)
    parts[32] = b"a"
    return whole_file(parts, size)


def nodes_that_overlap(nodes=60, used=65535):
    parts = {96: group(1024, 512), 512: struct.pack("<4s4xQQQ", b"HEAP", 8, 0, 0)}
    for number in range(nodes):
        at = 1024 + 64 * number
        parts[at] = struct.pack("<4sBBH", b"TREE", 0, 1, used)
        parts[at + 32] = struct.pack("<Q", at + 64)
    return whole_file(parts, 1024 + 64 * nodes + 16 * used + 128)


def a_type_of_4_gib():
    space, layout = struct.pack("<BBBBQ", 2, 1, 0, 1, 1), b"\3\1" + b"\0" * 16
    kind = struct.pack("<BB2xI", 0x13, 0, 2**32 - 1)
    return whole_file({96: header(message(1, space), message(3, kind), message(8, layout))})


CRAFTED = [names_of_one_long_text, groups_that_share_one_heap, nodes_that_overlap, a_type_of_4_gib]


@pytest.mark.parametrize("make", CRAFTED)
def test_parts_that_are_used_again_and_again_take_no_more_memory_than_the_file(make):
    content = make()
    tracemalloc.start()
    try:
        line_or_arrays(lambda: read_all(content))
        assert tracemalloc.get_traced_memory()[1] < 2**25 + 2 * len(content)
    finally:
        tracemalloc.stop()


HEAD = b"".join(
    [
        b"\x80\x02\x8a\n" + MAGIC_NUMBER.to_bytes(10, "little") + b".",
        b"\x80\x02M" + PROTOCOL.to_bytes(2, "little") + b".",
    ]
)


@settings(deadline=None)
@given(damaged([pth()]))
@example(b"\x80\x02\x8e\nl$q\0.\xfc\x9cF")  # found by the fuzzer: bytes of a length beyond any machine
@example(b"\x80\x02Nr\xff\xff\xff\x3f.")  # a memo of a billion places
@example(b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.")  # a key whose hash would overflow the stack
@example(b"\x80\x02)" + b"q\0h\0h\0\x87" * 50 + b".")  # a tuple that is small and has 3 ** 50 leaves
@example(HEAD + b"\x80\x02}.\x80\x02}X\x01\0\0\0aNs.\x80\x02].")
def test_a_damaged_pth_file_is_read_or_refused(content):
    said = line_or_arrays(lambda: parse_pth(content, "file.pth"))
    if isinstance(said, str):
        assert "\n" not in said
        assert len(said) < 500
    else:
        assert sum(array.size for array in said.values()) <= len(content)


def test_a_pth_file_can_not_grow_by_strides_of_zero():
    content = pth().replace(b"K\x00K\x07\x85K\x01\x85", b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85")
    with pytest.raises(WeightsError, match="far more numbers than it holds"):
        parse_pth(content, "file.pth")


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (3, 2)},
        {"chunks": (4, 3), "compression": "gzip"},
        {"chunks": (1, 3), "compression": "gzip", "shuffle": True},
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int8", "uint32", ">i8"])
def test_numbers_are_those_that_h5py_wrote(storage, dtype):
    stream, numbers = io.BytesIO(), np.arange(12, dtype=dtype).reshape(4, 3)
    with h5py.File(stream, "w") as file:
        file.create_dataset("a/b/c", data=numbers, **storage)
        file["scalar"], file["empty"] = numbers[1, 1], numbers[:0]
    arrays = dict(read_hdf5(stream.getvalue(), "file.h5").walk())
    assert list(arrays) == ["a/b/c", "empty", "scalar"]
    assert arrays["a/b/c"].dtype == dtype
    np.testing.assert_array_equal(arrays["a/b/c"].read(), numbers)
    np.testing.assert_array_equal(arrays["a/b/c"].read(), numbers)  # again
    assert arrays["scalar"].read() == 4
    assert arrays["empty"].read().shape == (0, 3)


def test_many_members_and_long_names_are_read():
    stream, names = io.BytesIO(), [f"{number:04}_{'x' * (number % 50)}" for number in range(700)]
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            file.create_group(name).attrs["weight_names"] = ["kernel:0", "bias:0"]
    root = read_hdf5(stream.getvalue(), "file.h5")
    assert root.names("layer_names") == list(root.members) == names
    assert root.members[names[3]].names("weight_names") == ["kernel:0", "bias:0"]


def _stored(**settings):
    stream = io.BytesIO()
    with h5py.File(stream, "w", **settings.pop("file", {})) as file:
        file.create_dataset("a", **settings)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: _stored(data=[b"text"]), "something else than plain numbers"),
        (lambda: _stored(data=[1 + 2j]), "something else than plain numbers"),
        (lambda: _stored(data=np.zeros(9), file={"libver": "latest"}), "form of HDF5 that Keras doesn't write"),
        (lambda: _stored(data=np.zeros(9), chunks=(3,), compression="lzf"), "packed in a way"),
        (lambda: _stored(data=np.zeros(9), chunks=(3,), fletcher32=True), "packed in a way"),
        (lambda: _stored(shape=(9,), dtype="f4"), "lacks its numbers"),
        (lambda: _stored(shape=(9,), dtype="f4", chunks=(3,)), "lacks its numbers"),
        (lambda: _stored(shape=(2**31, 2**31), dtype="f4", chunks=(8, 8)), "far more numbers than it holds"),
        (lambda: hdf5()[:-1], "cut off"),
        (lambda: b"", "it ends before byte 8"),
        (lambda: b"no such file" * 9, "is no HDF5 file"),
    ],
)
def test_what_is_not_read_is_said(content, said):
    with pytest.raises(WeightsError, match=said):
        read_all(content())


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused():
    numbers = np.random.default_rng(0).uniform(size=1000)
    content = _stored(data=numbers, chunks=(1000,), compression="gzip", compression_opts=9)
    start = content.index(zlib.compress(numbers.tobytes(), 9)[:16])
    bomb = zlib.compress(bytes(2**20), 9)
    content = content[:start] + bomb + content[start + len(bomb) :]
    with pytest.raises(WeightsError, match="another size than it says"):
        read_all(content)
