"""Test-time views against crops, mirrors and turns made with plain NumPy, and the files that name views."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from scipy import ndimage

from tlkit.data.augment import FITS, evaluation_view
from tlkit.data.pipeline import Views, side_needed
from tlkit.data.resize import resize
from tlkit.data.tta import EVALUATION, TEST_TIME_VIEWS, Rendering, find_views, views_risk
from tlkit.errors import RecipeError
from tlkit.recipe_keys import EvaluationTable
from tlkit.tasks import Task

SIZES = {"none": 1, "flip": 2, "fivecrop": 5, "tencrop": 10, "multiscale": 3, "rotations": 5, "dihedral": 8}


@pytest.fixture(scope="module")
def image():
    """A wide image, its values smooth, so that a pixel more or less at an edge changes little."""
    rows, columns = np.mgrid[0:160, 0:200]
    return np.stack([rows, columns, (rows + columns) / 2], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)


def render(image, name, fit="crop", size=70):
    return [view.render(image, size, fit) for view in TEST_TIME_VIEWS[name]]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", TEST_TIME_VIEWS)
def test_the_evaluation_view_comes_first_and_no_view_twice(name, fit, noise):
    views = render(noise, name, fit)
    assert len(TEST_TIME_VIEWS[name]) == len(set(TEST_TIME_VIEWS[name])) == SIZES[name]
    assert np.array_equal(views[0], evaluation_view(noise, 70, fit))
    for view in views:
        assert (view.shape, view.dtype, view.flags.c_contiguous) == ((70, 70, 3), np.uint8, True)
    assert len({view.tobytes() for view in views}) == SIZES[name]


def test_a_recipe_knows_the_same_sets():
    (names,) = (get_args(field.annotation) for field in [EvaluationTable.model_fields["tta"]])
    assert names == ("auto", *TEST_TIME_VIEWS)


def test_corners_of_a_crop_are_those_of_the_middle_square(noise):
    """140 of 160 pixels are kept, at half their size: each pixel is the mean of four."""
    _, *corners = render(noise, "fivecrop")
    middle = noise[:, 20:180].astype(float)
    for view, (top, left) in zip(corners, [(0, 0), (0, 20), (20, 0), (20, 20)], strict=True):
        window = middle[top : top + 140, left : left + 140]
        assert np.abs(view - window.reshape(70, 2, 70, 2, 3).mean(axis=(1, 3))).max() <= 0.5


@pytest.mark.parametrize(("corner", "top", "left"), [("top_left", 0, 0), ("bottom_right", 20, 25)])
def test_corners_of_a_squashed_image_are_its_own(noise, corner, top, left):
    view = Rendering(crop=corner).render(noise, 35, "squash")
    window = noise[top : top + 140, left : left + 175].astype(float)
    assert np.abs(view - window.reshape(35, 4, 35, 5, 3).mean(axis=(1, 3))).max() <= 0.5


def test_corners_of_a_letterboxed_image_keep_its_aspect(noise):
    view = Rendering(crop="bottom_left").render(noise, 35, "letterbox")
    window = noise[20:160, 0:175].astype(float)
    assert (view[:3] == 127).all()
    assert (view[-4:] == 127).all()
    assert np.abs(view[3:31] - window.reshape(28, 5, 35, 5, 3).mean(axis=(1, 3))).max() <= 0.5


def test_scales_show_more_or_less_of_the_image(noise):
    """Scale 7/8 of the evaluation view is all of the middle square, scale 7/4 half of it."""
    whole, close = (Rendering(scale=scale).render(noise, 40) for scale in (0.875, 1.75))
    assert np.abs(whole - noise[:, 20:180].astype(float).reshape(40, 4, 40, 4, 3).mean(axis=(1, 3))).max() <= 0.5
    assert np.abs(close - noise[40:120, 60:140].astype(float).reshape(40, 2, 40, 2, 3).mean(axis=(1, 3))).max() <= 0.5


@pytest.mark.parametrize("fit", FITS)
def test_what_a_small_scale_shows_beyond_the_image_is_grey(fit):
    """At half the scale a square image is half as large: under `crop`, which shows 0.875 of it, 4/7 of the view."""
    view = Rendering(scale=0.5).render(np.full((140, 140, 3), 200, np.uint8), 70, fit)
    margin = 15 if fit == "crop" else 17
    inner = view[margin + 1 : -margin - 1, margin + 1 : -margin - 1]
    assert (inner == 200).all()
    for edge in (view[: margin - 1], view[1 - margin :], view[:, : margin - 1], view[:, 1 - margin :]):
        assert (edge == 127).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (16, 16)])
def test_the_smallest_and_longest_images_have_all_views(shape):
    tiny = np.zeros((*shape, 3), np.uint8)
    everything = {view for views in TEST_TIME_VIEWS.values() for view in views}
    for view in everything | {Rendering(scale=2.0, crop="top_left"), Rendering(scale=0.25, angle=30.0)}:
        for fit in FITS:
            rendered = view.render(tiny, 8, fit)
            assert rendered.shape == (8, 8, 3)
            assert rendered.min() < 127  # some of the image, not grey alone


def test_tencrop_is_fivecrop_and_its_mirror_images(noise):
    five, ten = (np.stack(render(noise, name)) for name in ("fivecrop", "tencrop"))
    assert np.array_equal(ten, np.concatenate([five, five[:, :, ::-1]]))


def test_dihedral_is_the_symmetry_group_of_the_square(noise):
    plain = evaluation_view(noise, 70)
    expected = {
        np.ascontiguousarray(turned).tobytes()
        for flipped in (plain, plain.transpose(1, 0, 2))
        for turned in (flipped, flipped[::-1], flipped[:, ::-1], flipped[::-1, ::-1])
    }
    assert {view.tobytes() for view in render(noise, "dihedral")} == expected
    quarter = Rendering(angle=90.0).render(noise, 70)
    assert np.array_equal(quarter, plain.transpose(1, 0, 2)[::-1])  # what was right is on top: counterclockwise


@pytest.mark.parametrize("angle", [-10.0, 5.0, 45.0])
def test_small_turns_are_those_of_scipy(image, angle):
    turned = Rendering(angle=angle).render(image, 71)
    plain = evaluation_view(image, 71).astype(float)
    expected = ndimage.rotate(plain, angle, reshape=False, order=1, mode="mirror")
    assert np.abs(turned - expected)[8:-8, 8:-8].max() <= 2
    assert np.abs(turned - expected).mean() <= 1


def test_mirrors_come_before_turns(noise):
    both = Rendering(mirror=True, angle=90.0).render(noise, 70)
    assert np.array_equal(both, np.rot90(evaluation_view(noise, 70)[:, ::-1]))


class Watched:
    """Counts how often each image is read, and how much of it."""

    def __init__(self, image):
        self.image, self.reads = image, []

    def read(self, i, at_least=None):
        self.reads.append((i, at_least))
        return self.image


def test_one_reading_serves_all_views(noise):
    data = Watched(noise)
    view = Views(data, image_size=32).test_time(TEST_TIME_VIEWS["tencrop"])
    rendered = view.render(3)
    assert data.reads == [(3, side_needed(32))]
    assert np.array_equal(rendered, np.stack(render(noise, "tencrop", size=32)))


@pytest.mark.parametrize("fit", FITS)
def test_what_is_read_has_a_pixel_for_each_that_is_shown(fit):
    """At the largest scale, too, no view of a reduced photo has to make up pixels."""
    side = side_needed(224)
    for crop in ("centre", "top_left"):
        window = Rendering(scale=2.0, crop=crop)._window(side, side, fit)
        assert all(length >= 224 for _, length in window)


def test_resizing_is_that_of_the_evaluation_view(noise):
    assert np.array_equal(Rendering(scale=0.875).render(noise, 64), resize(noise[:, 20:180], 64, 64))


FILE = """
[[views]]

[[views]]
scale = 1.25
crop = "bottom_left"
mirror = true
angle = -5
"""


def test_a_file_names_views(tmp_path):
    (tmp_path / "mine.toml").write_text(FILE)
    views = find_views(tmp_path / "mine.toml")
    assert views == (EVALUATION, Rendering(1.25, "bottom_left", True, -5.0)) == find_views(str(tmp_path / "mine.toml"))
    assert replace(EVALUATION, mirror=True) == find_views("flip")[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected at least one table [[views]]. Received: None"),
        ("views = []", "expected at least one table [[views]]. Received: []"),
        ("views = [1]", "`views.0` must be a table. Received: 1"),
        ("[views]\nscale = 1", "expected at least one table [[views]]. Received: {'scale': 1}"),
        ("[[view]]", "unknown key `view`. Did you mean 'views'?"),
        ("[[views]]\nzoom = 2", "`views.0`: unknown key `zoom`. Known here: scale, crop, mirror, angle."),
        ("[[views]]\n[[views]]\nscael = 2", "`views.1`: unknown key `scael`. Did you mean 'scale'?"),
        ("[[views]]\nscale = 0", "`views.0.scale`: expected a number from 0.25 to 2. Received: 0."),
        ("[[views]]\nscale = true", "`views.0.scale`: expected a number from 0.25 to 2. Received: True."),
        ("[[views]]\nscale = nan", "`views.0.scale`: expected a number from 0.25 to 2. Received: nan."),
        ("[[views]]\nangle = 270", "`views.0.angle`: expected a number from -180 to 180. Received: 270."),
        ('[[views]]\nangle = "5"', "`views.0.angle`: expected a number from -180 to 180. Received: '5'."),
        ("[[views]]\nmirror = 1", "`views.0.mirror`: expected true or false. Received: 1."),
        ('[[views]]\ncrop = "center"', "Received: 'center'. Did you mean 'centre'?"),
        ("[[views]]\ncrop = [1]", "`views.0.crop`: expected one of centre, top_left, "),
        ("[[views]", "must be a TOML file"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(text, said, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        find_views(tmp_path / "mine.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: ")
    assert "\n" not in str(caught.value)


def test_names_and_files_that_are_not_there(tmp_path):
    with pytest.raises(RecipeError, match=r"tta: expected one of none, flip, .*Did you mean 'fivecrop'"):
        find_views("fivecrops")
    for path in (tmp_path / "gone.toml", tmp_path, "nowhere/views"):
        with pytest.raises(RecipeError, match="Give a TOML file of views, or one of: none, flip"):
            find_views(path)


DIGITS, GARMENTS = Task("single_label", tuple("0123456789")), Task("single_label", ("dress", "hat"))


@pytest.mark.parametrize(
    ("tta", "said"),
    [
        ("flip", "the test-time views 'flip' mirror it, and the classes look like digits: "),
        ("tencrop", "mirror it, and"),
        ("dihedral", "mirror it and turn it by up to 180 degrees, and"),
    ],
)
def test_views_that_turn_digits_are_named(tta, said):
    assert said in views_risk(tta, DIGITS)
    assert "\n" not in views_risk(tta, DIGITS)
    assert views_risk(tta, GARMENTS) is None


@pytest.mark.parametrize("tta", ["none", "fivecrop", "multiscale", "rotations"])
def test_views_that_keep_digits_upright_are_safe(tta):
    assert views_risk(tta, DIGITS) is None


@pytest.mark.parametrize("task", [Task("regression"), Task("multilabel", ("RBC", "WBC"))])
def test_crops_lose_what_labels_of_the_whole_image_count(task):
    for tta in ("fivecrop", "tencrop", "multiscale"):
        assert "cut off the margins" in views_risk(tta, task)
    for tta in ("none", "flip", "rotations", "dihedral"):
        assert views_risk(tta, task) is None
