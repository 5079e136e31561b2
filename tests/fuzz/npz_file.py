"""Fuzz the reader of .npz files: the archive as it is, or its arrays before they are packed (first byte below 128)."""

import io
import tempfile
import zipfile
from pathlib import Path

from driver import fuzz

NAMES = ("images", "labels")
KINDS = ("auto", "single_label", "multilabel", "regression")


def load():
    from tlkit.data.arrays import list_npz

    file = Path(tempfile.mkdtemp(prefix="npz-")) / "fuzzed.npz"

    def run(data):
        if not data:
            return
        file.write_bytes(pack(data[1:].split(b"|||")) if data[0] < 128 else data[1:])
        listing = list_npz(file, {"label": KINDS[data[0] % len(KINDS)]})
        assert len(listing.paths) == len(listing.labels["label"].values) == len(listing.images)

    return run


def pack(arrays):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in zip(NAMES, arrays, strict=False):
            writer.writestr(f"{name}.npy", content)
    return archive.getvalue()


def seeds():
    import numpy as np

    images = np.arange(6 * 4 * 4).reshape(6, 4, 4).astype(np.uint8)
    for first, labels in (
        (1, np.arange(6)),
        (1, np.array(["a", "b"] * 3)),
        (2, np.eye(6, dtype=np.int8)),
        (3, np.linspace(0, 1, 6)),
        (0, np.array([b"a", b"b"] * 3)),
    ):
        parts = []
        for array in (images, labels):
            file = io.BytesIO()
            np.save(file, array)
            parts.append(file.getvalue())
        yield bytes([first]) + b"|||".join(parts)
        file = io.BytesIO()
        np.savez(file, images=images, labels=labels)
        yield bytes([128 + first]) + file.getvalue()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.data.npz", "tlkit.data.arrays"])
