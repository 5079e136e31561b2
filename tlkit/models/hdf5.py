"""Read the arrays of an HDF5 weights file as Keras writes it, without the HDF5 library.

The library does what a file tells it to: it opens other files that a link, an external storage or a virtual dataset
names, makes room for whatever shape is declared, and is written in C. This reader knows the plain form that h5py writes
unless told otherwise (superblock 0, symbol tables, version 1 headers), with arrays in one piece or in chunks that zlib
may have packed. Everything else is refused, and every address and size is held against the bytes that are there.

Reference:
    The HDF Group, HDF5 File Format Specification Version 3.0,
    https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

import functools
import itertools
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tlkit.errors import WeightsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS = 100_000  # groups, arrays and parts of them; the largest backbone has 10,000
MOST_STEPS = 1_000_000  # entries of headers, nodes and heaps that are looked at; ResNet-50 has 3,424
DEEPEST = 32  # groups in groups
LONGEST_NAME = 1024  # bytes
LARGEST_PACKING = 10  # bytes unpacked for one of the file; weights are noise and don't pack
SMALL = 2**26  # bytes that any file may unpack to
ABSENT = 2**64 - 1  # the address of what is not there

# Messages of an object header.
NIL, DATASPACE, DATATYPE, OLD_FILL, FILL, LAYOUT, FILTERS = 0x00, 0x01, 0x03, 0x04, 0x05, 0x08, 0x0B
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, MODIFIED = 0x0C, 0x10, 0x11, 0x12
READ = {DATASPACE, DATATYPE, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE}
IGNORED = {NIL, OLD_FILL, FILL, MODIFIED}
REFUSED = {0x02: "links", 0x06: "links", 0x07: "data in other files"}
SHARED = 0x02  # a flag: the message lies elsewhere

COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
DEFLATE, SHUFFLE = 1, 2
FIXED_POINT, FLOATING_POINT, STRING, VARIABLE_LENGTH = 0, 1, 3, 9
# Where IEEE 754 has its bits: the sign, first and number of the exponent's, first and number of the mantissa's.
FLOATS = {2: (15, 10, 5, 0, 10), 4: (31, 23, 8, 0, 23), 8: (63, 52, 11, 0, 52)}
HARD_LINKS = (0, 1)  # cache types of a symbol: nothing cached, a group cached; 2 is a soft link
TEXTS = ("layer_names", "weight_names")  # attributes that are read, also in pieces: `weight_names0`, ...


@dataclass(frozen=True)
class Array:
    """An array of the file.

    Attributes:
        shape: `tuple` of int.
        dtype: `numpy.dtype`.
        read: Function that returns the numbers as an array; it may raise `WeightsError`.
    """

    shape: tuple
    dtype: np.dtype
    read: Callable


@dataclass
class Group:
    """A group of the file.

    Attributes:
        members: Dict of name to `Group` or `Array`, in the file's order.
        texts: Dict of attribute name to list of str, those of `TEXTS` alone.
    """

    members: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)

    def names(self, text):
        """Return the list of names in the attribute `text`, whether it is whole or in pieces; `[]` without any."""
        if text in self.texts:
            return self.texts[text]
        pieces = itertools.takewhile(self.texts.__contains__, (f"{text}{number}" for number in itertools.count()))
        return [name for piece in pieces for name in self.texts[piece]]

    def walk(self, prefix=""):
        """Yield `(path, Array)` of all arrays."""
        for name, member in self.members.items():
            if isinstance(member, Group):
                yield from member.walk(f"{prefix}{name}/")
            else:
                yield prefix + name, member


def read_hdf5(content, where):
    """Read what an HDF5 file of numbers holds.

    Args:
        content: The file's bytes.
        where: The file's name, for the error.

    Returns:
        `Group`, the file's root.

    Raises:
        WeightsError: If it is damaged, or holds anything but plain arrays of numbers.
    """
    return _told(where, lambda: _Reader(content, where).root())


def _told(where, read):
    try:
        return read()
    except (ValueError, TypeError, OverflowError, struct.error, zlib.error) as error:
        raise WeightsError(f"{where}: can't be read as a weights file: {error}.") from error


class _Reader:
    def __init__(self, content, where):
        self._content, self._where = memoryview(content), where
        self._seen, self._heaps = set(), {}
        self._unpacked = self._steps = 0

    def root(self):
        if self._bytes_at(0, 8) != SIGNATURE:
            raise ValueError("it is no HDF5 file")
        version, sizes, base = self._unpack("<B4x2s9xQ", 8)
        if (version, sizes, base) != (0, b"\x08\x08", 0):
            raise ValueError("it has a form of HDF5 that Keras doesn't write; save it with Keras anew")
        if self._unpack("<Q", 40)[0] > len(self._content):
            raise ValueError("it is cut off")
        group = self._object(self._unpack("<Q", 64)[0], 0)
        if not isinstance(group, Group):
            raise ValueError("its root is no group")
        return group

    def _view(self, start, length):
        if start + length > len(self._content):
            raise ValueError(f"it ends before byte {start + length}, which it refers to")
        return self._content[start : start + length]

    def _bytes_at(self, start, length):
        return bytes(self._view(start, length))

    def _unpack(self, form, start):
        return struct.unpack(form, self._bytes_at(start, struct.calcsize(form)))

    def _visit(self, address):
        """Note a structure of the file; each can be part of it once, or small files would be endless."""
        if address in self._seen or len(self._seen) >= MOST_OBJECTS:
            raise ValueError("its parts refer to each other, or are too many")
        self._seen.add(address)

    def _step(self, count=1):
        """Account for entries that are looked at: structures may overlap, and then a small file has very many."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise ValueError("it has far more parts than any net")

    def _claim(self, size):
        """Account for bytes in memory."""
        self._unpacked += size
        if self._unpacked > max(SMALL, LARGEST_PACKING * len(self._content)):
            raise ValueError("it declares far more numbers than it holds")

    def _object(self, address, depth):
        """Return the `Group` or `Array` whose header is there."""
        if depth > DEEPEST:
            raise ValueError(f"its groups are nested deeper than {DEEPEST}")
        messages, texts = {}, {}
        for kind, data in self._messages(address):
            if kind == ATTRIBUTE:
                texts |= self._attribute(data)
            elif kind in messages:
                raise ValueError("it says something twice")
            else:
                messages[kind] = data
        if SYMBOL_TABLE in messages:
            return self._group(messages[SYMBOL_TABLE], texts, depth)
        if not {DATASPACE, DATATYPE, LAYOUT} <= messages.keys():
            raise ValueError("it holds something that is neither a group nor an array")
        shape, dtype = _shape(messages[DATASPACE]), _dtype(messages[DATATYPE])
        if dtype.kind not in "iuf":
            raise ValueError("it holds something else than plain numbers")
        self._claim(math.prod(shape) * dtype.itemsize)
        filters = _filters(messages[FILTERS]) if FILTERS in messages else []
        values = functools.partial(self._values, shape, dtype, messages[LAYOUT], filters)
        return Array(shape, dtype, lambda: _told(self._where, values))

    def _messages(self, address):
        """Yield `(kind, data)` of each message of an object header, its continuations included."""
        version, _, count, _, size = self._unpack("<BBHII", address)
        if version != 1:
            raise ValueError("it has a form of HDF5 that Keras doesn't write; save it with Keras anew")
        self._visit(address)
        blocks = [(address + 16, size)]
        while blocks and count:
            start, size = blocks.pop(0)
            stop = start + size
            while start + 8 <= stop and count:
                self._step()
                kind, length, flags = self._unpack("<HHB", start)
                data = self._bytes_at(start + 8, length)
                start, count = start + 8 + length, count - 1
                if kind not in READ | IGNORED or flags & SHARED:
                    raise ValueError(f"it holds {REFUSED.get(kind, 'something')}, which tlkit doesn't read")
                if kind == CONTINUATION:
                    further = struct.unpack_from("<QQ", data)
                    self._visit(further[0])
                    blocks.append(further)
                elif kind in READ:
                    yield kind, data

    def _group(self, table, texts, depth):
        tree, heap = struct.unpack_from("<QQ", table)
        signature, size, _, data = self._unpack("<4s4xQQQ", heap)
        if signature != b"HEAP":
            raise ValueError("the names of a group are missing")
        names = self._view(data, size)  # copied once for each group that shares them, they would fill the memory
        group = Group(texts=texts)
        for node, count in self._leaves(tree, b"SNOD", 0, 8):
            for number in range(count):
                self._step()
                offset, address, cached = self._unpack("<QQI", node + 8 + 40 * number)
                if cached not in HARD_LINKS:
                    raise ValueError("it holds links")
                name = bytes(names[offset : offset + LONGEST_NAME]).split(b"\0")[0].decode("utf-8")
                if name in group.members or name in ("", ".", "..") or "/" in name:
                    raise ValueError(f"a group has an impossible member {name[:40]!r}")
                group.members[name] = self._object(address, depth + 1)
        return group

    def _leaves(self, tree, signature, kind, key_bytes):
        """Yield `(address, entries)` of the last nodes of a B-tree: `signature` tells them from those above."""
        waiting, seen = [tree], set()
        while waiting:
            address = waiting.pop()
            if address in seen or len(seen) >= MOST_OBJECTS:
                raise ValueError("a part of it refers to itself")
            seen.add(address)
            found, of_kind, level, used = self._unpack("<4sBBH", address)
            if found == b"TREE" and of_kind == kind and (level or signature != b"TREE"):
                self._step(used)
                step = key_bytes + 8
                starts = range(address + 24 + key_bytes, address + 24 + key_bytes + used * step, step)
                waiting += [self._unpack("<Q", start)[0] for start in reversed(starts)]
            elif found == signature and (found == b"SNOD" or of_kind == kind):
                yield address, used
            else:
                raise ValueError("a part of it is damaged")

    def _values(self, shape, dtype, layout, filters):
        """Return the numbers of an array."""
        version, kind = struct.unpack_from("<BB", layout)
        size = math.prod(shape) * dtype.itemsize
        if version == 3 and kind == CHUNKED:
            return self._chunks(shape, dtype, layout, filters)
        if version not in (3, 4) or kind not in (COMPACT, CONTIGUOUS) or filters:
            raise ValueError("it holds data in other files, or in a form that Keras doesn't write")
        if kind == COMPACT:
            (stored,) = struct.unpack_from("<H", layout, 2)
            values = layout[4 : 4 + stored]
        else:
            start, stored = struct.unpack_from("<QQ", layout, 2)
            values = b"" if start == ABSENT else self._content[start : start + stored]
        if len(values) != size:
            raise ValueError(f"an array of shape {shape} lacks its numbers")
        return (np.frombuffer(values, dtype) if size else np.empty(0, dtype)).reshape(shape)

    def _chunks(self, shape, dtype, layout, filters):
        rank, tree = struct.unpack_from("<BQ", layout, 2)
        chunk = struct.unpack_from(f"<{len(shape)}I", layout, 11)
        if (
            rank != len(shape) + 1
            or not shape
            or not all(0 < step <= side for side, step in zip(shape, chunk, strict=True))
        ):
            raise ValueError(f"an array of shape {shape} is damaged")
        starts = [range(0, side, step) for side, step in zip(shape, chunk, strict=True)]
        if math.prod(map(len, starts)) > MOST_OBJECTS:
            raise ValueError(f"an array of shape {shape} is in too many pieces")
        values, missing = np.empty(shape, dtype), set(itertools.product(*starts))
        chunk_bytes = math.prod(chunk) * dtype.itemsize
        key_bytes = 8 + 8 * rank
        for node, count in self._leaves(tree, b"TREE", 1, key_bytes) if tree != ABSENT else ():
            for number in range(count):
                self._step()
                at = node + 24 + number * (key_bytes + 8)
                stored, skipped, *offsets, _, address = self._unpack(f"<II{rank + 1}Q", at)
                where = tuple(offsets)
                if where not in missing or skipped:
                    raise ValueError(f"an array of shape {shape} is damaged")
                missing.remove(where)
                plain = _unpacked(self._bytes_at(address, stored), filters, chunk_bytes, dtype)
                part = values[tuple(slice(first, first + step) for first, step in zip(where, chunk, strict=True))]
                part[...] = plain.reshape(chunk)[tuple(map(slice, part.shape))]
        if missing:
            raise ValueError(f"an array of shape {shape} lacks its numbers")
        return values

    def _attribute(self, data):
        """Return `{name: list of str}` of an attribute message; empty for attributes that nobody asks for."""
        version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", data)
        start = {1: 8, 2: 8, 3: 9}.get(version)
        if start is None:
            raise ValueError("an attribute has an unknown form")
        parts = []
        for size in (name_size, type_size, space_size):
            parts.append(data[start : start + size])
            start += -(-size // 8) * 8 if version == 1 else size
        name = parts[0].split(b"\0")[0].decode("utf-8")
        if name.rstrip("0123456789") not in TEXTS:
            return {}
        shape, dtype = _shape(parts[2]), _dtype(parts[1])
        if shape == (0,):  # h5py makes numbers of an empty list
            return {name: []}
        if dtype.kind not in "SV" or len(shape) != 1 or len(data) - start < shape[0] * dtype.itemsize:
            raise ValueError(f"{name} is no list of names")
        values = np.frombuffer(data, dtype, shape[0], start).tolist()
        if dtype.kind == "V":
            values = [self._heap_object(*struct.unpack("<4xQI", value)) for value in values]
        return {name: [value.decode("utf-8") for value in values]}

    def _heap_object(self, address, index):
        """Return the bytes of a text of variable length."""
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        start, length = self._heaps[address].get(index, (0, LONGEST_NAME + 1))
        if length > LONGEST_NAME:
            raise ValueError("a text is missing, or longer than any name")
        self._claim(length)
        return self._bytes_at(start, length)

    def _heap(self, address):
        """Return a dict of number to `(start, length)` of the objects of a global heap."""
        signature, size = self._unpack("<4s4xQ", address)
        start, stop, found = address + 16, address + size, {}
        while signature == b"GCOL" and start + 16 <= stop:
            self._step()
            number, length = self._unpack("<H6xQ", start)
            found.setdefault(number, (start + 16, length))
            start += 16 + -(-length // 8) * 8
        return found


def _shape(data):
    version, rank, _, kind = struct.unpack_from("<BBBB", data)
    if version not in (1, 2) or rank > 8 or (version == 2 and kind == 2):
        raise ValueError("an array has an unknown form")
    return struct.unpack_from(f"<{rank}Q", data, 8 if version == 1 else 4)


def _dtype(data):
    """Return the NumPy type of plain numbers, of texts (S), or of references to texts (V)."""
    kind, bits, size = struct.unpack_from("<BB2xI", data)
    order = ">" if bits & 1 else "<"
    kind &= 15
    if kind == STRING and 0 < size <= LONGEST_NAME:
        return np.dtype(f"S{size}")
    if kind == VARIABLE_LENGTH and bits & 15 == 1 and size == 16:
        return np.dtype("V16")
    if kind == FIXED_POINT and size in (1, 2, 4, 8) and struct.unpack_from("<HH", data, 8) == (0, 8 * size):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind == FLOATING_POINT and size in FLOATS and not bits & 0x40:
        form = (data[2], *struct.unpack_from("<BBBB", data, 12))
        if struct.unpack_from("<HH", data, 8) == (0, 8 * size) and form == FLOATS[size]:
            return np.dtype(f"{order}f{size}")
    raise ValueError("it holds something else than plain numbers")


def _filters(data):
    """Return the numbers of the filters that packed an array, first applied first."""
    version, count = struct.unpack_from("<BB", data)
    position, found = {1: 8, 2: 2}.get(version), []
    for _ in range(count if position else 0):
        (number,) = struct.unpack_from("<H", data, position)
        named = version == 1 or number >= 256  # else the length of a name is left out
        name_size = struct.unpack_from("<H", data, position + 2)[0] if named else 0
        position += 4 if named else 2
        (values,) = struct.unpack_from("<H", data, position + 2)
        padding = values % 2 if version == 1 else 0
        position += 4 + name_size + 4 * (values + padding)
        found.append(number)
    if position is None or not set(found) <= {DEFLATE, SHUFFLE} or len(found) > 2:
        raise ValueError("it holds data that is packed in a way which tlkit doesn't read")
    return found


def _unpacked(packed, filters, size, dtype):
    """Return the numbers of one chunk of `size` bytes."""
    for number in reversed(filters):
        if number == DEFLATE:
            packed = zlib.decompressobj().decompress(packed, size + 1)
        else:
            planes = np.frombuffer(packed, np.uint8).reshape(dtype.itemsize, -1)
            packed = planes.T.tobytes()
    if len(packed) != size:
        raise ValueError("a part of an array has another size than it says")
    return np.frombuffer(packed, dtype)
