"""`tlkit.rank` on photos: what is looked at, what is kept, what is refused."""

import json
import shutil

import pytest

import tlkit
from tlkit.api import ranking
from tlkit.errors import DataError, RecipeError, WeightsError

LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    """Two hues of 24 photos each, of which 7 are for testing."""
    return photo_folder(tmp_path_factory.mktemp("rank") / "photos", per_class=24)


@pytest.fixture(scope="module")
def ranked(photos):
    return tlkit.rank(photos, backbones=[LITE, "mobilenet_v2"], weights={"mobilenet_v2": "none"})


def test_every_image_but_those_for_testing_is_predicted(ranked):
    assert set(ranked.data.split[ranked.images]) == {"train", "val"}
    assert len(ranked.images) == len(ranked.data) - len(ranked.data.indices("test"))
    described = ranked.describe()
    assert described["n"] == len(ranked.images)
    assert {one["backbone"] for one in described["backbones"]} == {LITE, "mobilenet_v2"}
    lite = next(one for one in described["backbones"] if one["backbone"] == LITE)
    assert lite["tasks"]["label"]["accuracy"] == 1.0
    assert lite["parameters"] == 3_413_024
    assert lite["milliseconds_per_image"] > 0
    json.dumps(described)


def test_asking_again_is_the_same_and_runs_no_network(photos, ranked, monkeypatch):
    def refuse(*_):
        raise AssertionError("the features are kept")

    monkeypatch.setattr("tlkit.training.features.KeptFeatures._compute", refuse)
    again = tlkit.rank(photos, backbones=[LITE]).describe()["backbones"][0]
    before = next(one for one in ranked.describe()["backbones"] if one["backbone"] == LITE)
    assert again["loss"] == before["loss"]
    assert again["tasks"] == before["tasks"]


def test_many_images_are_thinned_out_class_by_class(photos):
    data = tlkit.load_data(photos)
    images = ranking._images(data, 24)
    assert len(images) == 24
    assert "test" not in data.split[images]
    assert data.labels["label"][images].mean() == 0.5


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"backbones": ["resnet5"]}, WeightsError, "Did you mean"),
        ({"backbones": ["lenet5"]}, WeightsError, "no pretrained backbone 'lenet5'"),
        ({"weights": {"resnt50": "x.h5"}}, WeightsError, "Did you mean 'resnet50'"),
        ({"backbones": [LITE], "weights": {"resnet50": "x.h5"}}, RecipeError, "--backbone resnet50"),
        ({"weights": {"resnet50": "gone.h5"}}, WeightsError, "gone.h5"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_the_images_are_read(asked, error, text):
    with pytest.raises(error, match=text):
        tlkit.rank("no-such-folder", **asked)


def test_too_few_images_are_refused(photo_folder, tmp_path):
    with pytest.raises(DataError, match="ranking needs 20"):
        tlkit.rank(photo_folder(tmp_path / "few", per_class=5), backbones=[LITE])


def test_unnamed_backbones_are_those_at_hand(monkeypatch):
    recipes, left_out = ranking._choose((), {}, False)
    names = [recipe.backbone.name for recipe in recipes]
    assert LITE in names
    assert "resnet50" in left_out
    assert not set(names) & set(left_out)


def test_several_kinds_of_tasks_are_ranked_together(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    rows = ["path,hue,brightness"]
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        rows.append(f"{path.relative_to(tmp_path)},{path.parent.name},{number % 7}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    kinds = {"hue": "single_label", "brightness": "regression"}
    found = tlkit.rank(tmp_path / "labels.csv", backbones=[LITE], tasks=kinds).describe()["backbones"][0]
    assert found["tasks"]["hue"]["accuracy"] == 1.0
    assert found["tasks"]["brightness"]["mae"] > 1
