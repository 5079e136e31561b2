import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import albumentations
import numpy as np
import pytest

from tlkit.data.augment import FITS, POLICIES, evaluation_view, training_view, view_seed
from tlkit.errors import RecipeError


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(60, 90), (400, 300), (5, 3), (1, 1), (2, 300)])
def test_a_view_is_always_uint8_and_square(policy, fit, size):
    source = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    view = training_view(policy, 32, fit)
    for seed in range(5):
        rendered = view(source, seed)
        assert (rendered.shape, rendered.dtype) == ((32, 32, 3), np.uint8)
        assert rendered.flags.c_contiguous


@pytest.mark.parametrize("policy", POLICIES)
def test_a_view_is_a_function_of_image_and_seed(image, policy):
    """Trap 8: whatever was rendered before, in whatever thread, and by whichever pipeline."""
    view = training_view(policy, 32)
    expected = {seed: view(image, seed) for seed in range(40)}
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 3)).tolist()
    with ThreadPoolExecutor(4) as pool:
        for seed, rendered in zip(order, pool.map(lambda seed: view(image, seed), order), strict=True):
            assert np.array_equal(rendered, expected[seed])
    again = training_view(policy, 32)
    assert all(np.array_equal(again(image, seed), expected[seed]) for seed in reversed(range(40)))
    different = len({rendered.tobytes() for rendered in expected.values()})
    fewest = {"none": 1, "mirror": 2, "flips": 4, "erasing": 12}.get(policy, 31)  # half of the latter's are plain
    assert different >= fewest


@pytest.mark.parametrize("policy", ["heavy", "alexnet", "randaugment", "trivialaugment"])
def test_a_view_is_the_same_in_another_process(policy):
    code = (
        "import numpy as np, zlib; from tlkit.data.augment import training_view, view_seed;"
        "image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8);"
        f"view = training_view({policy!r}, 32);"
        "print(zlib.crc32(b''.join(view(image, view_seed(1, 2, i)).tobytes() for i in range(20))))"
    )
    outputs = {
        subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


def test_threads_hold_their_own_pipelines(image):
    """Trap 8: one pipeline shared by threads gives whatever the last `set_random_seed` of any of them says."""
    view = training_view("heavy", 16)
    expected = [view(image, seed) for seed in range(20)]
    wrong = []

    def render():
        for seed in range(20):
            if not np.array_equal(view(image, seed), expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_view_seeds_differ_in_every_argument():
    seeds = {view_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(50)}
    assert len(seeds) == 5 * 20 * 50
    assert view_seed(3, 1, 4) == view_seed(3, 1, 4)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_without_augmentation_training_sees_the_evaluation_view(image):
    for fit in FITS:
        assert np.array_equal(training_view("none", 32, fit)(image, 7), evaluation_view(image, 32, fit))


@pytest.mark.parametrize("side", [32, 300])
def test_crop_keeps_the_middle(side):
    image = np.zeros((80, 120, 3), np.uint8)
    image[5:75, 25:95] = 255  # 0.875 of the shorter side
    assert (evaluation_view(image, side, "crop") == 255).all()
    image[5:75, 24] = 99  # just outside
    assert (evaluation_view(image, side, "crop") == 255).all()


def test_squash_keeps_every_corner():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, :40] = 255
    view = evaluation_view(image, 20, "squash")
    assert (view[:10, :10] == 255).all()
    assert (view[10:] == 0).all()
    assert (view[:, 10:] == 0).all()


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (4, 8)])
def test_letterbox_keeps_the_aspect_and_pads_with_grey(shape):
    view = evaluation_view(np.full((*shape, 3), 255, np.uint8), 16, "letterbox")
    view = view if shape[0] < shape[1] else view.transpose(1, 0, 2)
    assert (view[4:12] == 255).all()
    assert (view[:4] == 127).all()
    assert (view[12:] == 127).all()


def test_shrinking_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    view = evaluation_view(stripes, 64, "squash")
    assert np.abs(view.astype(int) - 127).max() <= 1
    crop = [{"op": "RandomResizedCrop", "scale": [0.9, 1.0]}]
    assert np.abs(training_view(crop, 64)(stripes, 0).astype(int) - 127).max() <= 20


def test_a_recipe_may_list_its_own_ops(image):
    flip = training_view([{"op": "HorizontalFlip", "p": 1.0}], 32)
    assert np.array_equal(flip(image, 0), evaluation_view(image, 32)[:, ::-1])
    smaller = training_view([{"op": "CenterCrop", "height": 8, "width": 8, "p": 1.0}], 32)
    assert smaller(image, 0).shape == (32, 32, 3)
    assert training_view([], 32)(image, 0).shape == (32, 32, 3)


def test_squash_and_letterbox_are_kept_under_a_random_crop():
    image = np.full((20, 60, 3), 255, np.uint8)
    view = training_view([{"op": "RandomResizedCrop", "scale": [1.0, 1.0], "ratio": [1.0, 1.0]}], 30, "letterbox")
    assert np.array_equal(view(image, 0), evaluation_view(image, 30, "letterbox"))


@pytest.mark.parametrize(
    ("policy", "fragment"),
    [
        ("lihgt", "Did you mean 'light'?"),
        ([{"op": "HorizontalFlipp"}], r"`augment.0`: unknown op 'HorizontalFlipp'. Did you mean 'HorizontalFlip'?"),
        ([{"op": "HorizontalFlip", "prob": 1}], r"HorizontalFlip takes p. Received: 'prob'"),
        ([{"op": "HorizontalFlip"}, {"op": "Affine", "rotat": 3}], r"`augment.1`: .* Did you mean 'rotate'?"),
        ([{"op": "HorizontalFlip", "p": 2}], r"p: Input should be less than or equal to 1. Received: 2"),
        ([{"op": "RandomResizedCrop", "scale": [2, 3]}], r"RandomResizedCrop: scale"),
        ([{"p": 0.5}], "must be a table with the key `op`"),
        (["HorizontalFlip"], "must be a table with the key `op`"),
        ([{"op": "Normalize"}], "doesn't return uint8 RGB images"),
        ([{"op": "Compose"}], "unknown op 'Compose'"),
        ([{"op": "BBoxSafeRandomCrop"}], "can't be used on images alone"),
        ([{"op": "RandAugmen"}], "unknown op 'RandAugmen'. Did you mean 'RandAugment'?"),
        ([{"op": "RandAugment", "magnitud": 3}], "takes num_ops, magnitude. .* Did you mean 'magnitude'?"),
        ([{"op": "RandAugment", "magnitude": 31}], "must be a whole number from 0 to 30. Received: 31"),
        ([{"op": "RandAugment", "num_ops": "2"}], "`num_ops` must be a whole number .* Received: '2'"),
        ([{"op": "RandAugment", "num_ops": True}], "Received: True"),
        ([{"op": "TrivialAugment", "p": 0.5}], "TrivialAugment takes no settings. Received: 'p'"),
        ([{"op": "PCANoise", "std": -1}], "`std` must be a number, at least 0. Received: -1"),
        ([{"op": "Flips", "vertical": 2}], "`vertical` must be a number from 0 to 1. Received: 2"),
        ([{"op": "RandomSquare", "share": 1.5}], "`share` must be above 0 and at most 1. Received: 1.5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy, fragment):
    with pytest.raises(RecipeError, match=fragment) as caught:
        training_view(policy, 32)
    assert "\n" not in str(caught.value)


def test_an_op_that_fails_on_an_image_is_named(image, monkeypatch):
    """As albumentations' FancyPCA does, now and then, whose eigenvalues don't converge; it passes the check before."""
    view = training_view([{"op": "HorizontalFlip", "p": 1.0}], 32)

    def fail(*_, **__):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(albumentations.HorizontalFlip, "apply", fail)
    with pytest.raises(RecipeError, match=r"`augment.0`: HorizontalFlip fails on an image: Eigenvalues did not"):
        view(image, 0)


def test_ops_of_albumentations_and_our_own_mix_in_any_order(image):
    """Each draws for itself: two flips with a seed of their own don't undo each other every time."""
    flip, nothing = {"op": "HorizontalFlip", "p": 0.5}, {"op": "PCANoise", "std": 0}
    view = training_view([flip, nothing, flip], 32)
    plain = evaluation_view(image, 32)
    mirrored = sum(not np.array_equal(view(image, seed), plain) for seed in range(200))
    assert 70 <= mirrored <= 130
    shifts = training_view([{"op": "PCANoise"}, {"op": "PCANoise"}], 32)
    once = training_view([{"op": "PCANoise", "std": 0.2}], 32)
    assert not all(np.array_equal(shifts(image, seed), once(image, seed)) for seed in range(20))


def test_ops_of_a_policy_draw_independently():
    """albumentations seeds all ops of a pipeline alike: then a view would be flipped just when it is cropped closely.

    Areas of `light` have a standard deviation of 0.11, so means of 1,000 views differ by about 0.005 by chance.
    """
    two = training_view([{"op": "HorizontalFlip", "p": 0.5}, {"op": "VerticalFlip", "p": 0.5}], 8)
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[0, 0] = 255
    seen = Counter(tuple(np.argwhere(two(corner, seed)[..., 0] == two(corner, seed).max())[0]) for seed in range(400))
    assert len(seen) == 4
    assert min(seen.values()) > 70
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 200)[None]
    ramp[..., 1] = np.linspace(0, 255, 200)[:, None]
    view = training_view("light", 32)
    areas = {True: [], False: []}
    for i in range(2000):
        x = view(ramp, view_seed(0, 0, i)).astype(float)
        across, down = (x[:, -1, 0] - x[:, 0, 0]).mean(), (x[-1, :, 1] - x[0, :, 1]).mean()
        areas[across < 0].append(abs(across * down) / 255**2)
    assert abs(np.mean(areas[True]) - np.mean(areas[False])) < 0.02


def test_alexnet_crops_within_the_middle_square():
    """Of a photo of 512 x 256 the crops come from the middle 256 x 256, each 224 x 224."""
    height, width = 256, 512
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.arange(height)[:, None]
    ramp[..., 1] = np.clip(np.arange(width) - 128, 0, 255)  # 0 to 255 over the middle square
    view = training_view([{"op": "RandomSquare", "share": 0.875}], 224)
    tops, lefts = set(), set()
    for seed in range(300):
        crop = view(ramp, seed).astype(int)
        top, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
        assert np.array_equal(crop[..., 0], np.arange(top, top + 224)[:, None].repeat(224, 1))
        assert np.array_equal(crop[..., 1], np.arange(left, left + 224)[None].repeat(224, 0))
        tops.add(top)
        lefts.add(left)
    assert min(tops) == min(lefts) == 0
    assert max(tops) == max(lefts) == 32


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy not in ("randaugment", "trivialaugment")])
def test_no_policy_blackens_corners(policy):
    white = np.full((40, 40, 3), 255, np.uint8)
    view = training_view(policy, 32)
    for seed in range(60):
        assert view(white, seed).min() > 100  # erased boxes are grey


def test_an_unknown_fit_is_refused(image):
    with pytest.raises(RecipeError, match="Did you mean 'squash'"):
        evaluation_view(image, 32, "squish")
    with pytest.raises(RecipeError, match="Did you mean 'crop'"):
        training_view("none", 32, "corp")


def test_albumentations_may_not_call_home():
    """Trap 8: its import asks the network for a newer version unless told not to."""
    code = (
        "import socket; socket.socket.connect = None; socket.getaddrinfo = None;"
        "from tlkit.data.augment import training_view; training_view('light', 32);"
        "import os; print(os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    )
    bare = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert (done.stdout.strip(), done.stderr) == ("1", "")
