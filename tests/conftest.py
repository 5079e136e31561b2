"""What all tests share: a private home for caches, the real data where it lies beside the checkout, quick photos."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Before TensorFlow, Keras or albumentations is imported by any test module.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as tlkit does, which some tests import after Keras
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Give the whole session, subprocesses included, empty caches: no test depends on, or writes to, the user's."""
    home = tempfile.TemporaryDirectory(prefix="tlkit-tests-")
    config.add_cleanup(home.cleanup)
    # Keras reads keras.json and cached weights from KERAS_HOME when it is imported, so a fixture would come too late.
    os.environ["KERAS_HOME"] = str(Path(home.name) / "keras")
    os.environ["TLKIT_CACHE"] = str(Path(home.name) / "tlkit")


def pytest_collection_finish():
    """Let collections of garbage pass over all that was imported: clearing Keras's state collects each time."""
    _spare_what_is_left()


@pytest.fixture(scope="module", autouse=True)
def _short_collections():
    """Let them pass over what a module has left in the engine, too, so that those of later modules stay short."""
    yield
    _spare_what_is_left()


def _spare_what_is_left():
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data():
    """Folder with the real data that the project doesn't carry itself; the test is skipped where it is absent."""
    folder = Path(os.environ.get("TLKIT_TEST_DATA") or PROJECT.parent / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set TLKIT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def shared_weights(shared_data):
    """Folder with real ImageNet weights, beside the data; the test is skipped where it is absent."""
    folder = shared_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip(f"no test weights at {folder}; they belong beside TLKIT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def photo_folder():
    """Function that writes a small dataset: `photo_folder(folder, classes, per_class, size, seed) -> Path`."""
    return write_photos


@pytest.fixture
def photos(tmp_path):
    """A folder with two classes of twelve quick photos each."""
    return write_photos(tmp_path / "photos")


def write_photos(folder, classes=("a", "b"), per_class=12, size=48, seed=0):
    """Write random textures, JPEG and PNG in turn, `folder/<class>/NN.*`; each class has a hue and a brightness.

    Args:
        folder: Where the class folders go; made if missing.
        classes: Names of the classes.
        per_class: Number of images per class.
        size: Side in pixels.
        seed: Seed of the textures.

    Returns:
        `folder` as a `pathlib.Path`.
    """
    folder = Path(folder)
    random = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        angle = 2 * np.pi * (number / len(classes) + np.arange(3) / 3)
        # Hues lie evenly around the circle; a net that sees grey has the brightness to learn.
        colour = 60 + 180 * number / len(classes) + 55 * np.cos(angle)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = np.clip(colour + random.normal(0, 30, (size, size, 3)), 0, 255).astype("uint8")
            suffix = "png" if i % 2 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{i:02}.{suffix}")
    return folder


TINY_LITE0 = ("data.image_size=32", "data.batch_size=8")
TINY = (*TINY_LITE0, "backbone.name=lenet5", "backbone.weights=none")


@pytest.fixture(scope="session")
def tiny():
    """`--set` texts that make a run take seconds: 32 pixels, batches of 8, and LeNet-5, which is built in no time."""
    return TINY


@pytest.fixture(scope="session")
def tiny_lite0():
    """The same with the default backbone and its real weights, for what hangs on them; it takes three times as long."""
    return TINY_LITE0


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A completed run of three epochs on 24 photos, the last one with a block unfrozen."""
    return _completed_run(TINY, tmp_path_factory.mktemp("tiny"), learning_rate=0.2, schedule="constant")


@pytest.fixture(scope="session")
def tiny_lite0_run(tmp_path_factory):
    """The same with the default backbone and its real weights."""
    return _completed_run(TINY_LITE0, tmp_path_factory.mktemp("tiny_lite0"), learning_rate=1e-2)


def _completed_run(settings, folder, **of_head):
    from tlkit.api import finetune_recipe
    from tlkit.recipe import read_recipe

    stages = [
        {"unfreeze": 0, "epochs": 2, **of_head},
        {"unfreeze": 1, "epochs": 1, "learning_rate": 1e-3},
    ]
    recipe = read_recipe("default", settings, {"stages": stages, "head.init": "random"})
    return finetune_recipe(recipe, write_photos(folder / "photos"), out=folder / "run")


@pytest.fixture
def tlkit(monkeypatch, capsys):
    """Run a command line; return its exit status, stdout and stderr."""

    from tlkit.cli import main

    def run(*command):
        monkeypatch.setattr(sys, "argv", ["tlkit", *map(str, command)])
        with pytest.raises(SystemExit) as stopped:
            main()
        answer = capsys.readouterr()
        return stopped.value.code, answer.out, answer.err

    return run
