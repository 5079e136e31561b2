"""The reader of PyTorch files: right about honest ones, deaf to others."""

import collections
import hashlib
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest

from tlkit.catalog import BACKBONES
from tlkit.errors import WeightsError
from tlkit.models.pth import MAGIC_NUMBER, PROTOCOL, parse_pth, read_pth
from tlkit.models.weights import find_weights


@pytest.fixture
def torch(monkeypatch):
    """Stand-ins under PyTorch's names, for writing files as PyTorch does."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    module.FloatStorage = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError("never called while writing")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module


class _Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, key, length, offset, shape, strides):
        self.storage, self.arguments = _Storage(key, length), (offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, *self.arguments)


class _Storage:
    def __init__(self, key, length):
        self.key, self.length = key, length


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return ("storage", sys.modules["torch"].FloatStorage, value.key, "cpu", value.length, None)
        return None


def legacy_file(content, storages=()):
    """Write a file in the format that PyTorch wrote until 1.5; `storages` maps key to float32 values."""
    stream = io.BytesIO()
    for part in (MAGIC_NUMBER, PROTOCOL, {"little_endian": True}):
        pickle.dump(part, stream, protocol=2)
    _Pickler(stream, protocol=2).dump(content)
    pickle.dump(sorted(storages), stream, protocol=2)
    for key in sorted(storages):
        values = np.asarray(storages[key], "<f4")
        stream.write(len(values).to_bytes(8, "little") + values.tobytes())
    return stream.getvalue()


def test_it_reads_offsets_strides_and_shared_storages(torch):
    tensors = {
        "a": _Tensor("0", 7, 1, (2, 3), (3, 1)),
        "b": _Tensor("0", 7, 0, (3, 2), (1, 3)),
        "c": _Tensor("1", 1, 0, (), ()),
    }
    arrays = parse_pth(legacy_file(collections.OrderedDict(tensors), {"0": range(7), "1": [9]}), "file")
    assert list(arrays) == ["a", "b", "c"]
    np.testing.assert_array_equal(arrays["a"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(arrays["b"], [[0, 3], [1, 4], [2, 5]])
    assert arrays["c"] == 9


def test_lite0s_file_holds_296_arrays():
    path = find_weights("efficientnet_lite0", "imagenet")
    arrays = read_pth(path, BACKBONES["efficientnet_lite0"].weights.hash)
    assert len(arrays) == 296
    assert arrays["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(array).all() for array in arrays.values())


class _Exploit:
    def __reduce__(self):
        return os.mkdir, ("exploited",)


@pytest.mark.parametrize("content", [_Exploit(), {"weight": _Exploit()}])
def test_a_malicious_pickle_is_refused_and_nothing_runs(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"evil\.pth.*mkdir, which no weights file needs"):
        parse_pth(legacy_file(content), "evil.pth")
    assert not list(tmp_path.iterdir())


def test_a_tampered_file_is_refused_before_it_is_interpreted(tmp_path, monkeypatch):
    monkeypatch.setattr("tlkit.models.pth.parse_pth", lambda *_: pytest.fail("it was interpreted"))
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="Expected sha256 0000") as error:
        read_pth(path, "0" * 64)
    assert hashlib.sha256(b"something else").hexdigest() in str(error.value)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (8,), (1,)), (6, (2,), (1,)), (0, (2, 2), (1, 6)), (0, (2,), (-1,)), (-1, (2,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(torch, offset, shape, strides):
    content = legacy_file(collections.OrderedDict(a=_Tensor("0", 7, offset, shape, strides)), {"0": range(7)})
    with pytest.raises(WeightsError, match="beyond its storage"):
        parse_pth(content, "file")


@pytest.mark.parametrize("length", [0, 10, 60, -1, -20])
def test_a_truncated_file_is_refused(torch, length):
    content = legacy_file(collections.OrderedDict(a=_Tensor("0", 7, 0, (7,), (1,))), {"0": range(7)})
    with pytest.raises(WeightsError, match="can't be read as a PyTorch weights file"):
        parse_pth(content[:length], "file")
