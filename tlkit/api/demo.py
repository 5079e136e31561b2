"""The demo's data: scikit-learn's handwritten digits, as folders of PNG files."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from tlkit.data.checks import cache_folder

SIDE = 8  # pixels, as they come; values 0 to 16, white on black


def write_digits():
    """Write 1,797 digits as `<cache>/demo/digits/<class>/<number>.png`, unless they are there.

    Returns:
        Path of the folder, in the layout that `--data` takes.

    Reference:
        E. Alpaydin and C. Kaynak 1998, https://archive.ics.uci.edu/dataset/80 (the test part, CC BY 4.0).
    """
    folder = cache_folder() / "demo" / "digits"
    if folder.is_dir():
        return folder
    import cv2
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        written = Path(temporary) / "digits"
        for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            file = written / str(label) / f"{number:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.round(image * (255 / 16)).astype(np.uint8)
            file.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        if not folder.exists():
            shutil.move(written, folder)
    return folder
