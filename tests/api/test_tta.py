"""Test-time views of a run, from the choice on validation to the figures: made cases with nets that look at one side.

A white or black square stands somewhere on grey; the net sees the left half of the image alone.
"""

import json
import shutil

import keras
import numpy as np
import pytest

import tlkit
from tlkit.api.tta import candidates
from tlkit.delivery.predict import Run
from tlkit.errors import RecipeError, RunError
from tlkit.progress import Listener

SIDE = 16


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def one_eyed(sees, bias, flips_matter=True):
    """Return a net that says class 0 or 1 by what `sees`, weights of the left half's mean brightness, make of it.

    Where that is grey, it says class 0 if `bias` is positive, else 1.
    """
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="block1")(image)
    if flips_matter:
        x = keras.layers.Cropping2D(((0, 0), (0, SIDE // 2)))(x)
    dense = keras.layers.Dense(2, name="logits")
    logits = dense(keras.layers.GlobalAveragePooling2D()(x))
    dense.set_weights([np.array(sees, np.float32).reshape(1, 2).repeat(3, axis=0), np.array([bias, -bias], np.float32)])
    return keras.Model(image, keras.layers.Activation("softmax", name="label")(logits), name="one_eyed")


def squares(n, labelled_by, seed=0):
    """Return `n` images with a square each, and labels that say its colour or its side."""
    random = np.random.default_rng(seed)
    bright, right = random.random(n) < 0.5, random.random(n) < 0.5
    images = random.integers(121, 134, (n, SIDE, SIDE, 3), np.uint8)
    for image, light, there in zip(images, bright, right, strict=True):
        left = 10 if there else 3
        image[6:10, left : left + 4] = 255 if labelled_by == "side" or light else 0
    marked = right if labelled_by == "side" else bright
    return images, np.where(marked, "thus", "so")  # names that say nothing of sides


def make_run(path, model, images, labels, **split):
    data = tlkit.load_data((images, labels), **split)
    stages = [{"unfreeze": "all", "epochs": 1, "learning_rate": 1e-12}]
    settings = {"data.augment": "none", "data.fit": "squash"}
    return tlkit.finetune(model, data, stages=stages, settings=settings, out=path, block_ends=["block1"])


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Squares on the right are guessed: of those, all bright ones wrongly. Their mirror images tell."""
    model = one_eyed([-9, 9], bias=0.5)
    return make_run(tmp_path_factory.mktemp("colours") / "run", model, *squares(400, "colour"))


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """A square on the left is "so", one on the right is "thus": the mirror image says the opposite."""
    model = one_eyed([9, -9], bias=-1.0)
    return make_run(tmp_path_factory.mktemp("sides") / "run", model, *squares(400, "side"))


def test_auto_keeps_the_views_that_help(colours):
    notes = Notes()
    plain, auto = (tlkit.evaluate(colours, tta=tta, listener=notes) for tta in ("none", "auto"))
    assert plain.tta is None
    assert plain.accuracy < 0.9
    assert auto.accuracy == 1.0
    assert auto.tta["chosen"] == "flip"
    assert auto.tta["average"] == "probabilities"
    by_split = [(row["name"], row["split"]) for row in auto.tta["rows"]]
    assert by_split == [*((name, "val") for name in ("flip", "fivecrop", "tencrop", "multiscale")), ("flip", "test")]
    row = auto.tta["rows"][-1]
    assert row["flipped_wrong"] == 0
    assert row["flipped_right"] == round((1 - plain.accuracy) * plain.metrics["n"])
    assert row["p"] < 0.05
    assert row["gain"] == pytest.approx(1 - plain.accuracy)
    (line,) = (line for line in notes.lines if line.startswith("auto: "))
    assert line.startswith("auto: flip helps: accuracy 1.000 (+0.")
    assert f"become right: {auto.tta['rows'][0]['flipped_right']}, wrong: 0" in line


def test_auto_keeps_none_where_views_hurt(sides):
    notes = Notes()
    plain, flip, auto = (tlkit.evaluate(sides, tta=tta, listener=notes) for tta in ("none", "flip", "auto"))
    assert plain.accuracy == 1.0
    assert flip.accuracy < 0.7
    (row,) = flip.tta["rows"]
    assert row["flipped_right"] == 0
    assert row["flipped_wrong"] > 0
    assert auto.metrics == plain.metrics
    assert auto.tta["chosen"] == "none"
    assert all(row["split"] == "val" for row in auto.tta["rows"])
    assert any(line.startswith("auto: no set of views helps by more than chance") for line in notes.lines)


def test_auto_keeps_none_where_views_change_nothing(tmp_path):
    model = one_eyed([-9, 9], bias=0.0, flips_matter=False)
    run = make_run(tmp_path / "run", model, *squares(200, "colour"))
    auto = tlkit.evaluate(run, tta="auto")
    assert auto.tta["chosen"] == "none"
    assert auto.metrics == tlkit.evaluate(run).metrics


def test_the_run_s_end_measures_flips_and_leaves_the_headline_alone(colours, sides):
    for run, chosen in ((colours, "flip"), (sides, "none")):
        measured = json.loads((run.path / "metrics.json").read_text())["tta"]
        assert (measured["average"], measured["chosen"]) == ("probabilities", chosen)
        assert [(row["name"], row["views"], row["split"]) for row in measured["rows"]] == [
            ("flip", 2, "test"), ("flip", 2, "val"),
        ]  # fmt: skip
        assert tlkit.evaluate(run).metrics == run.metrics["test"]
        flip = tlkit.evaluate(run, tta="flip")
        assert flip.tta["rows"] == measured["rows"][:1]
        assert measured["rows"][0]["value"] == flip.accuracy
        assert 'tta = "flip"' in (run.path / "recipe.toml").read_text()


def test_predict_says_what_evaluate_measured(colours):
    """The views and averages that count are those of `evaluate`, image by image."""
    data, labels = colours.data, colours.data.labels["label"]
    indices = data.indices("test")
    for tta, how in (("flip", "probabilities"), ("tencrop", "logits"), ("multiscale", "geometric")):
        predicted = colours.predict([data.read(i) for i in indices], tta=tta, average=how)
        right = [p.label == data.tasks["label"].classes[labels[i]] for p, i in zip(predicted, indices, strict=True)]
        result = tlkit.evaluate(colours, tta=tta, average=how)
        assert np.mean(right) == result.accuracy
        of_true = [
            p.answers["label"].probabilities[data.tasks["label"].classes[labels[i]]]
            for p, i in zip(predicted, indices, strict=True)
        ]
        assert result.metrics["loss"] == pytest.approx(-np.mean(np.log(of_true)), rel=1e-5)


def test_predict_takes_the_views_that_the_run_kept(colours, tmp_path):
    image, notes = squares(1, "colour", seed=3)[0], Notes()
    auto, flip = (colours.predict(image, tta=tta, listener=notes)[0] for tta in ("auto", "flip"))
    assert auto == flip
    assert "auto: flip, as validation said at the end of the run" in notes.lines
    shutil.copytree(colours.path, tmp_path / "old")
    metrics = json.loads((tmp_path / "old" / "metrics.json").read_text())
    del metrics["tta"]
    (tmp_path / "old" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(RunError, match="has not measured whether test-time views help"):
        Run(tmp_path / "old").predict(image, tta="auto")


def test_where_validation_is_the_headline_views_are_chosen_crosswise(tmp_path):
    images, labels = squares(300, "colour")
    split = np.where(np.arange(300) < 150, "train", "val")
    data = tlkit.load_data((images, labels))
    from tlkit.data.index import with_split

    data = with_split(data, split)
    stages = [{"unfreeze": "all", "epochs": 1, "learning_rate": 1e-12}]
    settings = {"data.augment": "none", "data.fit": "squash"}
    run = tlkit.finetune(
        one_eyed([-9, 9], bias=0.5), data, stages=stages, settings=settings, out=tmp_path / "run", block_ends=["block1"]
    )
    notes = Notes()
    result = tlkit.evaluate(run, tta="auto", listener=notes)
    assert result.split == "val"
    assert result.accuracy == 1.0  # each fifth flipped, as the other four say
    assert result.tta["chosen"] == "flip"
    assert result.tta["rows"][-1]["name"] == "auto"
    assert notes.lines[0].startswith("auto: there is no test split")
    assert notes.lines[-1].endswith("of parts whose views the other parts chose: flip 5 times")


def test_on_other_data_the_run_s_own_validation_images_choose(colours, tmp_path):
    notes = Notes()
    other = squares(40, "colour", seed=9)
    result = tlkit.evaluate(colours, data=other, tta="auto", listener=notes)
    assert [(row["name"], row["split"]) for row in result.tta["rows"]][-2:] == [("multiscale", "val"), ("flip", "data")]
    assert result.accuracy == 1.0
    again = Run(colours.path)  # another process, which doesn't have the arrays
    result = tlkit.evaluate(again, data=squares(300, "colour", seed=9), tta="auto", listener=notes)
    assert result.accuracy == 1.0
    assert any(
        "the run's own data can't be had, so views are chosen and measured crosswise" in line for line in notes.lines
    ), notes.lines


def test_a_file_of_views_is_measured_against_the_evaluation_view(colours, tmp_path):
    (tmp_path / "mirror.toml").write_text("[[views]]\nmirror = true\n")
    result = tlkit.evaluate(colours, tta=tmp_path / "mirror.toml")
    (row,) = result.tta["rows"]
    assert (row["name"], row["views"]) == (str(tmp_path / "mirror.toml"), 1)
    plain = tlkit.evaluate(colours)
    assert row["gain"] == pytest.approx(result.accuracy - plain.accuracy)
    json.dumps(result.tta)


def test_bad_names_fail_first(colours):
    for settings, said in (({"tta": "flop"}, "Did you mean 'flip'"), ({"average": "mean"}, "expected one of prob")):
        with pytest.raises(RecipeError, match=said):
            tlkit.evaluate(colours, **settings)
        with pytest.raises(RecipeError, match=said):
            colours.predict(["gone.jpg"], **settings)


def test_views_that_are_likely_to_hurt_are_named_and_no_candidates(colours, tmp_path):
    path = tmp_path / "digits"
    shutil.copytree(colours.path, path)
    inputs = json.loads((path / "inputs.json").read_text())
    inputs["tasks"]["label"]["classes"] = ["6", "9"]
    (path / "inputs.json").write_text(json.dumps(inputs))
    run, notes = Run(path), Notes()
    assert candidates(run) == ["fivecrop", "multiscale"]
    run.predict(squares(2, "colour")[0], tta="flip", listener=notes)
    (line,) = notes.lines
    assert line.startswith("the test-time views 'flip' mirror it, and the classes look like digits: ")
    assert candidates(colours) == ["flip", "fivecrop", "tencrop", "multiscale"]
    recipe = (path / "recipe.toml").read_text().replace('augment = "none"', 'augment = "dihedral"')
    (colours_like := tmp_path / "upended").mkdir()
    for file in colours.path.iterdir():
        if file.is_file():
            shutil.copy(file, colours_like)
    (colours_like / "recipe.toml").write_text(recipe)
    assert candidates(Run(colours_like))[-1] == "dihedral"
