"""The classic nets as models: with their own tops and with new heads, from scratch, resumed, explained in one line."""

import keras
import numpy as np
import pytest

import tlkit
from tlkit.api import finetune_recipe
from tlkit.errors import RecipeError, WeightsError
from tlkit.recipe import check_recipe, read_recipe
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b"))}


def from_scratch(net, **data):
    return check_recipe(
        {
            "data": {"image_size": 32, "batch_size": 8, "augment": "none"} | data,
            "backbone": {"name": net, "weights": "none"},
            "head": {"original": True, "init": "random"},
            "training": {"batch_norm": "train"},
            "stages": [{"unfreeze": "all", "epochs": 2, "learning_rate": 0.01, "optimizer": "sgd"}],
        }
    )


def test_a_net_has_the_top_of_its_paper_or_a_new_head():
    own = tlkit.build_model("lenet5", TASKS, head="original", weights="none")
    new = tlkit.build_model("lenet5", TASKS, weights="none", dropout=0.0)
    names = {layer.name for layer in own.layers}
    assert "f6" in names
    assert "f6" not in {layer.name for layer in new.layers}
    assert own.output_shape == new.output_shape == (None, 2)
    # 61,706 with ten classes; the last layer has 84 weights and a bias a class
    assert own.count_params() == 61_706 - 8 * 85


def test_a_run_from_scratch_predicts_and_loads_bare(photo_folder, tmp_path):
    photos = photo_folder(tmp_path / "photos")
    run = finetune_recipe(from_scratch("resnet20_cifar"), photos, out=tmp_path / "run")
    assert run.metrics["test"]["n"] > 0
    plain = keras.saving.load_model(run.path / "model.keras")
    image = np.full((1, 32, 32, 3), 127, np.float32)
    np.testing.assert_allclose(plain(image), run.model(image), rtol=1e-6)
    assert plain.name == "resnet20_cifar"
    # and its weights begin another run, under a new head
    again = tlkit.build_model("resnet20_cifar", TASKS, weights=str(run.path))
    layer = next(layer.name for layer in plain.layers if isinstance(layer, keras.layers.Conv2D))
    np.testing.assert_array_equal(again.get_layer(layer).kernel, plain.get_layer(layer).kernel)


def test_auxiliary_classifiers_train_along_and_are_not_shipped(photo_folder, tmp_path):
    photos = photo_folder(tmp_path / "photos", per_class=8)
    run = finetune_recipe(from_scratch("googlenet_bn"), photos, out=tmp_path / "run")
    assert not [layer.name for layer in run.model.layers if "auxiliary" in layer.name]
    first = (run.path / "history.csv").read_text().splitlines()[1].split(",")
    # A net that knows nothing of two classes has a loss near ln 2; with the two auxiliaries 1.6 times that.
    assert float(first[3]) > 1.3 * np.log(2)


def test_there_are_no_imagenet_weights_of_a_net(photo_folder, tmp_path):
    recipe = check_recipe({"backbone": {"name": "vgg_d"}, "data": {"image_size": 32}})
    with pytest.raises(WeightsError, match=r"no ImageNet weights of vgg_d: .*--weights none"):
        finetune_recipe(recipe, photo_folder(tmp_path / "photos"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_near_miss_names_the_net():
    with pytest.raises(RecipeError, match="Did you mean 'lenet5'"):
        tlkit.build_model("lenet-5", TASKS, weights="none")


@pytest.mark.parametrize("name", ["lenet5", "resnet20_cifar", "alexnet_small", "googlenet_small"])
def test_recipes_from_scratch_train_everything_from_random_weights(name):
    recipe = read_recipe(name)
    assert recipe.backbone.weights == "none"
    assert recipe.head.original
    assert recipe.head.init == "random"
    assert all(stage.unfreeze == "all" for stage in recipe.stages)
