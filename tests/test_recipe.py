"""Recipes: typed, strict, and equal after a round trip."""

import json
import math

import pytest

from tlkit.errors import RecipeError
from tlkit.recipe import check_recipe, json_schema, read_recipe, recipe_names, recipe_text
from tlkit.recipe_keys import Recipe


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_survive_a_round_trip(name, tmp_path):
    recipe = read_recipe(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml(), "utf-8")
    assert read_recipe(copy) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_say_how_they_are_run_and_what_came_of_it(name):
    header = [line for line in recipe_text(name).splitlines() if line.startswith("#")]
    assert any(line.startswith("# Run:     tlkit ") for line in header)
    assert any(line.startswith(("# Result:  ", "# Published: ")) for line in header)


def test_the_four_that_are_promised_ship():
    assert {"default", "quick", "ants_bees", "feature_extraction"} <= set(recipe_names())


def test_overrides_reach_into_lists_and_keep_types():
    overrides = ["stages.0.epochs=3", "data.augment=none", "head.hidden=[64, 32]", "stages.0.unfreeze=all"]
    recipe = read_recipe("ants_bees", overrides)
    assert recipe.stages[0].epochs == 3
    assert recipe.data.augment == "none"
    assert recipe.head.hidden == [64, 32]
    assert recipe.stages[0].unfreeze == "all"


def test_overrides_win_over_settings():
    assert read_recipe("default", ["seed=2"], {"seed": 1, "backbone.name": "vgg16"}).seed == 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.batchsize=8"], "unknown key `data.batchsize`. Did you mean 'batch_size'?"),
        (["sed=1"], "unknown key `sed`. Did you mean 'seed'?"),
        (["stages.0.epoch=3"], "unknown key `stages.0.epoch`. Did you mean 'epochs'?"),
        (["stages.0.epochs=0"], "`stages.0.epochs`: input should be greater than or equal to 1. Received: 0"),
        (['stages=["a"]', "stages.0.epochs=1"], "--set stages.0.epochs: `0` holds 'a' and has no keys inside it"),
        (["stages.7.epochs=1"], "--set stages.7.epochs: expected a position from 0 to 0. Received: '7'"),
        (["head.dropout=1.5"], "`head.dropout`: input should be less than 1. Received: 1.5"),
        (["data.fit=stretch"], "`data.fit`: must be 'crop', 'squash', 'letterbox' or 'auto'. Received: 'stretch'"),
        (["backbone.name=resnet51"], "Did you mean 'resnet50'?"),
        (["seed"], "--set: expected KEY=VALUE, such as stages.0.epochs=3. Received: 'seed'"),
        (["seed.x=1"], "--set seed.x: `seed` holds 0 and has no keys inside it."),
        (["data.folds=1"], "`data.folds`: must be 0, or at least 2. Received: 1"),
        (
            ["tasks.label=detection"],
            "'label' must be one of single_label, multilabel, regression. Received: 'detection'",
        ),
        (["stages=[]", "head.init=random"], 'needs at least one stage, or head.init = "probe"'),
        (["stages=gradul"], "`stages`: must be 'auto', 'probe', 'head', 'gradual', "),
        (["stages=gradul"], "Did you mean 'gradual'?"),
        (["loss.weights=uncertain"], "`loss.weights`: must be 'uncertainty'. Received: 'uncertain'."),
        (["head.logits=cosine", "head.l2=0.1"], "`l2` does nothing for a cosine head"),
        (["head.custom=a:b", "head.dropout=0.5"], "`dropout` does nothing for a custom head"),
        (["training.average_best=1"], "`training.average_best`: must be 0, or at least 2"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(overrides, said):
    with pytest.raises(RecipeError) as caught:
        read_recipe("ants_bees", overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_gets_the_nearest_name():
    with pytest.raises(RecipeError, match=r"no recipe is called 'defualt'\. Did you mean 'default'"):
        read_recipe("defualt")


def test_a_missing_file_is_named():
    with pytest.raises(RecipeError, match=r"nowhere/x\.toml: no such recipe file"):
        read_recipe("nowhere/x.toml")


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("seed = = 1")
    with pytest.raises(RecipeError, match=r"bad\.toml: must be a TOML file"):
        read_recipe(tmp_path / "bad.toml")


def test_the_json_schema_describes_every_table():
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False


def test_the_least_recipe_is_the_default_one():
    assert check_recipe({}) == Recipe()


def test_recipes_in_a_folder_are_called_by_it():
    assert read_recipe("small_data/l2").training.l2 == 1e-3
    assert "small_data/l2" in recipe_names()
    with pytest.raises(RecipeError, match="Did you mean 'small_data/l2'"):
        read_recipe("small_data/l3")


def test_an_original_head_needs_a_net_that_comes_with_one():
    head = {"original": True, "init": "random"}
    recipe = check_recipe({"backbone": {"name": "lenet5", "weights": "none"}, "head": head})
    assert recipe.head.original
    with pytest.raises(RecipeError, match="efficientnet_lite0 comes without its top"):
        check_recipe({"head": head})
    for idle in ({"init": "zeros"}, {"dropout": 0.5}, {"custom": "my:head"}):
        with pytest.raises(RecipeError, match=r"does nothing for the net's original head|name two heads"):
            check_recipe({"backbone": {"name": "lenet5"}, "head": head | idle})


def test_resnet20_takes_the_steps_of_its_paper():
    """32,000, 16,000 and 16,000 steps of 128 images, 85 % of CIFAR-10's 50,000 being trained on."""
    recipe = read_recipe("resnet20_cifar")
    steps_per_epoch = math.ceil(0.85 * 50_000 / recipe.data.batch_size)
    steps = [stage.epochs * steps_per_epoch for stage in recipe.stages]
    assert steps == pytest.approx([32_000, 16_000, 16_000], rel=0.005)


def test_ranges_may_be_nested_as_toml_nests_them(tmp_path):
    (tmp_path / "flat.toml").write_text('[tune]\n"head.dropout" = { min = 0.0, max = 0.5 }\n"data.views" = [1, 2]\n')
    (tmp_path / "nested.toml").write_text("[tune]\nhead.dropout = { min = 0.0, max = 0.5 }\ndata.views = [1, 2]\n")
    flat, nested = (read_recipe(tmp_path / f"{name}.toml") for name in ("flat", "nested"))
    assert list(flat.tune) == ["head.dropout", "data.views"]
    assert (
        flat == nested == read_recipe("default", ["tune.head.dropout={min = 0.0, max = 0.5}", "tune.data.views=[1, 2]"])
    )
