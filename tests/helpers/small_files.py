"""Small valid files of every kind that tlkit reads, made in memory: what tests break and fuzzers start from."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np

from tlkit.models.pth import MAGIC_NUMBER, PROTOCOL


def hdf5(legacy=False, **storage):
    """Return an HDF5 weights file of one dense layer; `storage` is for `create_dataset`, such as `chunks`."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        folder = "dense/dense" if legacy else "layers/dense/vars"
        names = ["kernel:0", "bias:0"] if legacy else ["0", "1"]
        group = file.create_group(folder)
        group.create_dataset(names[0], data=np.arange(12, dtype="float32").reshape(4, 3), **storage)
        group[names[1]] = np.zeros(3, "float32")
        if legacy:
            file.attrs["layer_names"] = [b"dense"]
            file["dense"].attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
    return stream.getvalue()


def keras_file(config=None, weights=None, compression=zipfile.ZIP_STORED):
    """Return a `.keras` file of a dense layer from 4 numbers to 3, or with other contents."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr(
            "config.json", json.dumps(config or dense_config()) if not isinstance(config, bytes) else config
        )
        archive.writestr("model.weights.h5", hdf5() if weights is None else weights)
    return stream.getvalue()


def part(class_name, /, inputs=(), **config):
    """Return how Keras describes a layer; `inputs` are names of layers that it is called on."""
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "dtype": "float32",
                                                      "keras_history": [of, 0, 0]}} for of in inputs
    ]  # fmt: skip
    called = [{"args": tensors if len(tensors) == 1 else [tensors], "kwargs": {}}] if tensors else []
    name = config.get("name", class_name.lower())
    return {"module": "keras.layers", "class_name": class_name, "config": {"name": name, **config},
            "registered_name": None, "name": name, "inbound_nodes": called}  # fmt: skip


def functional(*layers, output=None):
    """Return the configuration of a model of 4 numbers through `layers`, each described by `part`."""
    image = part("InputLayer", name="image", batch_shape=[None, 4], dtype="float32")
    last = output or layers[-1]["name"]
    config = {"name": "small", "layers": [image, *layers], "input_layers": [["image", 0, 0]],
              "output_layers": [[last, 0, 0]]}  # fmt: skip
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config,
            "registered_name": "Functional"}  # fmt: skip


def dense_config(**settings):
    """Return the configuration of a model of one dense layer."""
    return functional(part("Dense", inputs=["image"], **({"units": 3} | settings)))


def pth():
    """Return a PyTorch weights file of the legacy format: two views of one storage of seven numbers."""
    parts = [pickle.dumps(value, protocol=2) for value in (MAGIC_NUMBER, PROTOCOL, {"little_endian": True})]
    text = lambda value: b"X" + len(value).to_bytes(4, "little") + value.encode()  # noqa: E731
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x07NtQ"
    tensors = b"".join(
        text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"\x89ccollections\nOrderedDict\n)RtR"
        for name, view in {"a": b"K\x01K\x02K\x03\x86K\x03K\x01\x86", "b": b"K\x00K\x07\x85K\x01\x85"}.items()
    )
    parts.append(b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(" + tensors + b"u}b.")
    parts += [pickle.dumps(["0"], protocol=2), (7).to_bytes(8, "little"), np.arange(7, dtype="<f4").tobytes()]
    return b"".join(parts)
