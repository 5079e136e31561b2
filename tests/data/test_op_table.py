"""Golden values are Pillow's, whose ops the papers used, or the papers' own formulas."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tlkit.data.op_table import OP_TABLE, OWN_OPS, apply_op, flips, pca_noise, rand_augment, trivial_augment

NAMES = list(OP_TABLE)
ALWAYS_THE_SAME = ("identity", "autocontrast", "equalize")  # have no magnitude


@pytest.fixture(scope="module")
def photo():
    """Smooth in space, uneven in its histogram, with all of [20, 220] and neither black nor white."""
    y, x = np.mgrid[0:48, 0:64] / 64
    waves = [np.sin(5 * x + channel) * np.cos(4 * y - channel) for channel in range(3)]
    return np.clip(120 + 100 * np.stack(waves, axis=-1) ** 3, 20, 220).astype(np.uint8)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)


def test_the_table_has_the_14_ops_of_the_paper():
    """Cubuk et al. 2019, section 3."""
    assert set(NAMES) == {
        *("identity", "autocontrast", "equalize", "rotate", "solarize", "colour", "posterize", "contrast"),
        *("brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
    }


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_op_keeps_shape_and_type_and_its_argument(name, wide, photo, noise):
    for image in (photo, noise, noise[:1, :1], np.zeros_like(noise)):
        before = image.copy()
        for magnitude in range(31):
            for negative in (False, True):
                changed = apply_op(image, name, magnitude, wide=wide, negative=negative)
                assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert np.array_equal(image, before)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("autocontrast", "equalize")])
def test_magnitude_zero_changes_nothing_and_thirty_does(name, wide, photo):
    assert np.array_equal(apply_op(photo, name, 0, wide=wide), photo)
    assert np.array_equal(apply_op(photo, name, 0, wide=wide, negative=True), photo)
    assert np.array_equal(apply_op(photo, name, 30, wide=wide), photo) == (name == "identity")


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALWAYS_THE_SAME])
def test_more_magnitude_changes_more(name, wide, photo):
    changes = [
        np.abs(apply_op(photo, name, magnitude, wide=wide).astype(int) - photo).mean() for magnitude in (3, 8, 14)
    ]
    assert changes == sorted(changes)
    assert changes[0] < changes[-1]


@pytest.mark.parametrize("image_name", ["photo", "noise", "few"])
@pytest.mark.parametrize("magnitude", range(0, 31, 3))
@pytest.mark.parametrize("wide", [False, True])
def test_pillow_agrees_to_the_bit(image_name, magnitude, wide, request, photo):
    """Few: hardly more pixels than an equalization has steps."""
    image = photo[::3, ::3].copy() if image_name == "few" else request.getfixturevalue(image_name)
    pillow = Image.fromarray(image)
    bits = 8 - round((6 if wide else 4) * magnitude / 30)
    threshold = 256 - 256 * magnitude / 30
    golden = {
        "posterize": ImageOps.posterize(pillow, bits),
        "solarize": ImageOps.solarize(pillow, threshold),
        "equalize": ImageOps.equalize(pillow),
        "autocontrast": ImageOps.autocontrast(pillow),
    }
    if magnitude == 30:
        golden["solarize"] = ImageOps.invert(pillow)
    for name, expected in golden.items():
        assert np.array_equal(apply_op(image, name, magnitude, wide=wide), np.asarray(expected)), name


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_flat_image_has_nothing_to_stretch(value):
    flat = np.full((5, 6, 3), value, np.uint8)
    for name in ("autocontrast", "equalize"):
        assert np.array_equal(apply_op(flat, name, 9, wide=True), flat)


ENHANCERS = {
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}


@pytest.mark.parametrize(("wide", "largest"), [(False, 0.9), (True, 0.99)])
@pytest.mark.parametrize("name", ENHANCERS)
def test_enhancements_are_pillows(name, wide, largest, photo):
    """Up to what is rounded, where Pillow cuts off, and the outermost pixels, which Pillow doesn't smooth."""
    inner = np.s_[1:-1, 1:-1]
    for magnitude in (10, 20, 30):
        for sign in (1, -1):
            factor = 1 + sign * largest * magnitude / 30
            expected = np.asarray(ENHANCERS[name](Image.fromarray(photo)).enhance(factor)).astype(int)
            received = apply_op(photo, name, magnitude, wide=wide, negative=sign < 0).astype(int)
            assert np.abs(received - expected)[inner].max() <= 2


def test_effects_go_the_stated_way(photo):
    def op(name, magnitude, negative=False):
        return apply_op(photo, name, magnitude, wide=False, negative=negative).astype(int)

    assert op("brightness", 9).mean() > photo.mean() > op("brightness", 9, negative=True).mean()
    assert op("contrast", 9).std() > photo.std() > op("contrast", 9, negative=True).std()
    saturation = np.ptp(photo.astype(int), axis=-1).mean()
    assert np.ptp(op("colour", 9), axis=-1).mean() > saturation
    assert np.ptp(op("colour", 9, negative=True), axis=-1).mean() < saturation
    for magnitude in range(31):
        bits = 8 - round(6 * magnitude / 30)
        assert len(np.unique(apply_op(photo, "posterize", magnitude, wide=True))) <= 2**bits


def test_sharpness_sharpens_and_blurs(noise):
    sharp, blurred = (apply_op(noise, "sharpness", 15, wide=False, negative=negative) for negative in (False, True))
    assert sharp.std() > noise.std() > blurred.std()


@pytest.mark.parametrize(("wide", "share"), [(False, 150 / 331), (True, 32 / 224)])
def test_translations_move_by_the_stated_share(wide, share):
    image = np.zeros((331, 331, 3), np.uint8) if not wide else np.zeros((224, 224, 3), np.uint8)
    side = len(image)
    image[side // 2, side // 2] = 255
    for name, axis in (("translate_x", 1), ("translate_y", 0)):
        for negative in (False, True):
            moved = apply_op(image, name, 30, wide=wide, negative=negative)
            bright = np.unravel_index(moved[..., 0].argmax(), moved.shape[:2])
            expected = [side // 2, side // 2]
            expected[axis] += round((-1 if negative else 1) * share * side)
            assert [int(part) for part in bright] == expected


@pytest.mark.parametrize(("wide", "largest"), [(False, 0.3), (True, 0.99)])
def test_shears_lean_about_the_centre_by_the_stated_rate(wide, largest):
    image = np.zeros((101, 101, 3), np.uint8)
    image[:, 50] = 255
    leaning = apply_op(image, "shear_x", 30, wide=wide)[..., 0].astype(float)
    upright = apply_op(image.transpose(1, 0, 2).copy(), "shear_y", 30, wide=wide)[..., 0].T
    np.testing.assert_allclose(leaning, upright, atol=1)
    centres = leaning[30:71] @ np.arange(101) / leaning[30:71].sum(axis=1)
    np.testing.assert_allclose(centres, 50 + largest * np.arange(-20, 21), atol=0.1)


@pytest.mark.parametrize(("wide", "degrees"), [(False, 30), (True, 135)])
def test_rotations_turn_by_the_stated_degrees(wide, degrees):
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50:80] = 255  # a hand from the centre to the right
    for negative in (False, True):
        turned = apply_op(image, "rotate", 30, wide=wide, negative=negative)[..., 0].astype(float)
        y, x = np.mgrid[0:101, 0:101] - 50
        angle = np.degrees(np.arctan2(-(turned * y).sum(), (turned * x).sum()))  # anticlockwise
        assert angle == pytest.approx(-degrees if negative else degrees, abs=1)


def test_randaugment_applies_ops_of_the_table_at_one_magnitude(photo):
    single = rand_augment(num_ops=1, magnitude=12)
    possible = {
        apply_op(photo, name, 12, wide=False, negative=negative).tobytes()
        for name in NAMES
        for negative in (False, True)
    }
    seen = {single(photo, np.random.default_rng(seed)).tobytes() for seed in range(500)}
    assert seen == possible
    again = [single(photo, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*again)


def test_randaugment_applies_as_many_ops_as_asked(photo):
    """Each op at magnitude 0 leaves the photo, but for autocontrast and equalize, drawn with probability 2 in 14."""
    for num_ops in (1, 2, 5):
        augment = rand_augment(num_ops=num_ops, magnitude=0)
        kept = np.mean([np.array_equal(augment(photo, np.random.default_rng(seed)), photo) for seed in range(4000)])
        assert kept == pytest.approx((12 / 14) ** num_ops, abs=0.035)


def test_trivialaugment_applies_one_op_at_any_magnitude(photo):
    augment = trivial_augment()
    possible = {
        apply_op(photo, name, magnitude, wide=True, negative=negative).tobytes()
        for name in NAMES
        for magnitude in range(31)
        for negative in (False, True)
    }
    seen = {augment(photo, np.random.default_rng(seed)).tobytes() for seed in range(2000)}
    assert seen <= possible
    assert len(seen) > 0.8 * len(possible)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_nothing_black_comes_in_from_outside(name):
    white = np.full((32, 32, 3), 255, np.uint8)
    for magnitude in range(31):
        assert (apply_op(white, name, magnitude, wide=True, negative=magnitude % 2) == 255).all()


def test_flips_are_drawn_for_each_axis(noise):
    both = flips()
    views = Counter(both(noise, np.random.default_rng(seed)).tobytes() for seed in range(400))
    assert set(views) == {noise[::down, ::right].tobytes() for down in (1, -1) for right in (1, -1)}
    assert min(views.values()) > 70
    upended = flips(horizontal=0, vertical=1)(noise, np.random.default_rng(0))
    assert np.array_equal(upended, noise[::-1])


def test_colour_noise_follows_the_papers_formula():
    """The same shift for all pixels; over views, covariance V diag((0.1 * 255 * eigenvalue)^2) V' around zero."""
    grey = np.full((2, 3, 3), 128, np.uint8)
    grey[1] = 90
    noise = pca_noise(0.1)
    shifts = []
    for seed in range(4000):
        shifted = noise(grey, np.random.default_rng(seed)).astype(int) - grey
        assert (shifted == shifted[0, 0]).all()
        shifts.append(shifted[0, 0])
    values = np.array([0.2175, 0.0188, 0.0045])
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)  # they are published as eigenvectors
    expected = vectors @ np.diag((0.1 * 255 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.2)
    np.testing.assert_allclose(np.cov(np.transpose(shifts)), expected, atol=0.6)  # 1/12 of it from rounding


def test_ops_depend_on_nothing_but_image_and_generator(photo):
    settings = {"RandomSquare": {"image_size": 16}}
    for name, build in OWN_OPS.items():
        op = build(**settings.get(name, {}))
        first = [op(photo, np.random.default_rng(seed)) for seed in range(20)]
        second = [op(photo, np.random.default_rng(seed)) for seed in reversed(range(20))][::-1]
        assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
