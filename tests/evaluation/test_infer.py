"""A prediction depends on the image alone: not on the batch it came in, nor on the views beside it."""

import keras
import numpy as np
import pytest

from tlkit.data.pipeline import Views
from tlkit.data.tta import EVALUATION, TEST_TIME_VIEWS
from tlkit.evaluation.infer import predict_images, predict_sets, predict_views
from tlkit.evaluation.tta import average
from tlkit.models.chain import Chain
from tlkit.progress import Listener
from tlkit.tasks import Task
from tlkit.training.features import KeptFeatures
from tlkit.training.memory import MemoryStore

TASKS = {"label": Task("single_label", ("a", "b", "c"))}


class Images:
    """What can be read is all that prediction needs of a data set."""

    source = "images"

    def __init__(self, images):
        self.images, self.reads = images, []
        self.sha256 = [str(number) for number in range(len(images))]

    def read(self, i, at_least=None):
        self.reads.append(i)
        return self.images[i]


@pytest.fixture(scope="module")
def chain():
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, name="block")(image))
    model = keras.Model(image, keras.layers.Activation("softmax", name="label")(keras.layers.Dense(3)(x)))
    return Chain(model, ["block"], TASKS, batch_size=4)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)


def predict(chain, images, indices=None, **settings):
    views = Views(Images(images), image_size=16, fit="squash")
    indices = np.arange(len(images)) if indices is None else indices
    return predict_images(chain, views, indices, TASKS, **settings)["label"]


def test_short_batches_are_padded_and_the_padding_is_dropped(chain, images):
    whole = predict(chain, images)
    single = np.concatenate([predict(chain, images, np.array([i])) for i in range(10)])
    assert whole.shape == (10, 3)
    np.testing.assert_array_equal(whole, single)


def test_flip_averages_the_image_and_its_mirror(chain, images):
    both = predict(chain, images, tta="flip")
    plain, mirrored = (predict(chain, view) for view in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-7)
    assert (both != plain).any()


def test_no_images_give_no_rows(chain, images):
    assert predict(chain, images[:0]).shape == (0, 3)


def make_views(images, fit="crop"):
    return Views(Images(images), image_size=16, fit=fit)


@pytest.fixture(scope="module")
def large():
    return np.random.default_rng(1).integers(0, 256, (10, 40, 48, 3), np.uint8)


@pytest.mark.parametrize("name", TEST_TIME_VIEWS)
def test_views_are_those_of_each_image_by_itself(name, chain, large):
    """Whatever shares a batch with a view, it predicts the same bits."""
    found = predict_views(chain, make_views(large), np.arange(10), TASKS, TEST_TIME_VIEWS[name])["label"]
    assert (found.shape, found.dtype) == ((len(TEST_TIME_VIEWS[name]), 10, 3), np.float32)
    for view, values in zip(TEST_TIME_VIEWS[name], found, strict=True):
        rendered = np.stack([view.render(image, 16) for image in large])
        np.testing.assert_array_equal(values, predict(chain, rendered))


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_sets_share_views_and_are_averaged_one_by_one(how, chain, large):
    sets = {name: TEST_TIME_VIEWS[name] for name in ("none", "tencrop", "flip")}
    found = predict_sets(chain, make_views(large), np.arange(10), TASKS, sets, average=how)
    for name, chosen in sets.items():
        values = predict_views(chain, make_views(large), np.arange(10), TASKS, chosen)["label"]
        np.testing.assert_array_equal(found[name]["label"], average(values, "single_label", how))
        alone = predict_images(chain, make_views(large), np.arange(10), TASKS, tta=name, average=how)
        np.testing.assert_array_equal(found[name]["label"], alone["label"])


@pytest.mark.parametrize("name", ["none", "flip", "tencrop"])
def test_each_image_is_read_once_and_every_batch_is_full(name, chain, large, monkeypatch):
    sizes, run = [], chain.run
    monkeypatch.setattr(chain, "run", lambda batch, *rest: sizes.append(len(batch)) or run(batch, *rest))
    views = make_views(large[:8])
    predict_images(chain, views, np.arange(8), TASKS, tta=name)
    assert sorted(views._data.reads) == list(range(8))
    assert sizes == [4] * (2 * len(TEST_TIME_VIEWS[name]))  # two batches of four images, for each view


def test_kept_features_stand_in_for_the_evaluation_view(chain, large):
    views, indices = make_views(large), np.arange(10)
    kept = KeptFeatures(MemoryStore(2**20), chain, views.evaluation(), views._data, indices, {})
    plain = predict_sets(chain, make_views(large), indices, TASKS, {"five": TEST_TIME_VIEWS["fivecrop"]})
    for _ in kept.ensure([1], 1, Listener()):
        pass
    views._data.reads.clear()
    found = predict_sets(chain, views, indices, TASKS, {"five": TEST_TIME_VIEWS["fivecrop"]}, kept=kept)
    np.testing.assert_array_equal(found["five"]["label"], plain["five"]["label"])
    assert sorted(views._data.reads) == list(range(10))  # for the other four views
    views._data.reads.clear()
    four = TEST_TIME_VIEWS["fivecrop"][1:]
    without = predict_views(chain, views, indices, TASKS, (*four, EVALUATION), kept=kept)["label"]
    other = predict_views(chain, views, indices, TASKS, (EVALUATION, *four))["label"]
    np.testing.assert_array_equal(without, np.roll(other, -1, axis=0))
    views._data.reads.clear()
    predict_images(chain, views, indices, TASKS, kept=kept)
    assert views._data.reads == []


KINDS = {
    "stage": Task("single_label", ("early", "late")),
    "cells": Task("multilabel", ("RBC", "WBC", "Platelets")),
    "count": Task("regression", mean=3.0, scale=2.0),
}


@pytest.fixture(scope="module")
def of_all_kinds():
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, name="block")(image))
    outputs = {
        "stage": keras.layers.Activation("softmax", name="stage")(keras.layers.Dense(2)(x)),
        "cells": keras.layers.Activation("sigmoid", name="cells")(keras.layers.Dense(3)(x)),
        "count": keras.layers.Rescaling(2.0, offset=3.0, name="count")(keras.layers.Dense(1)(x)),
    }
    return Chain(keras.Model(image, outputs), ["block"], KINDS, batch_size=4)


@pytest.mark.parametrize("how", ["probabilities", "logits", "geometric"])
def test_every_kind_of_task_is_averaged(how, of_all_kinds, large):
    views, indices = make_views(large, "squash"), np.arange(10)
    found = predict_images(of_all_kinds, views, indices, KINDS, tta="dihedral", average=how)
    single = predict_views(of_all_kinds, views, indices, KINDS, TEST_TIME_VIEWS["dihedral"])
    for name, task in KINDS.items():
        assert found[name].shape == (10, task.num_outputs)
        np.testing.assert_array_equal(found[name], average(single[name], task.kind, how))
    np.testing.assert_allclose(found["count"], single["count"].mean(axis=0), rtol=1e-6)
    none = predict_images(of_all_kinds, views, indices[:0], KINDS, tta="flip")
    assert {name: values.shape for name, values in none.items()} == {"stage": (0, 2), "cells": (0, 3), "count": (0, 1)}
