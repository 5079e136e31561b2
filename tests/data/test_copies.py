"""Copies of pictures at load time: found when saved anew or resized, never taken from pictures that are only alike."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tlkit.data import perceptual
from tlkit.data.copies import copies_among
from tlkit.data.index import load
from tlkit.data.perceptual import close_pairs, perceptual_hash, signatures, thumbnail, turn, turned_hashes


def picture(seed, size=160):
    """A picture with coarse shapes and details, different for every seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
    fine = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
    return Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(3)), 0.5)


@pytest.fixture
def folder(tmp_path):
    """Twelve different pictures of each of two classes, as PNG."""
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            picture(100 * number + i).save(tmp_path / "data" / name / f"{i:02}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("number", range(8))
def test_a_turned_picture_has_the_turned_hash(number):
    hashes = np.array([perceptual_hash(np.array(picture(seed))) for seed in range(10)], np.uint64)
    turned = [perceptual_hash(np.ascontiguousarray(turn(np.array(picture(seed)), number))) for seed in range(10)]
    assert np.bitwise_count(turned_hashes(hashes)[number] ^ np.array(turned, np.uint64)).max() <= 1


def test_a_hash_hardly_changes_and_a_flat_picture_has_none():
    for seed in range(10):
        whole = picture(seed)
        small = np.array(whole.resize((96, 120), Image.LANCZOS))
        apart = np.bitwise_count(np.uint64(perceptual_hash(np.array(whole)) ^ perceptual_hash(small)))
        assert apart <= 3
    assert perceptual_hash(np.full((50, 60, 3), 77, np.uint8)) == 0


def test_all_pairs_and_bands_find_the_same(monkeypatch):
    random = np.random.default_rng(0)
    hashes = random.integers(1, 2**63, 300, dtype=np.uint64)
    hashes[7] = hashes[200] ^ np.uint64(1 << 3 | 1 << 30 | 1 << 60)
    hashes[9] = turned_hashes(hashes[[250]])[4, 0]
    hashes[[1, 2]] = 0
    expected = [[7, 200, 0, 3], [9, 250, 4, 0]]
    assert close_pairs(hashes, 3, range(8)).tolist() == expected
    monkeypatch.setattr(perceptual, "_ALL_PAIRS", 10)
    assert close_pairs(hashes, 3, range(8)).tolist() == expected
    assert close_pairs(hashes, 3).tolist() == expected[:1]


def test_products_of_signatures_are_correlations():
    one, other = (thumbnail(np.array(picture(seed))) for seed in (1, 2))
    grays, details = signatures(np.stack([one, one / 2 + 10, other]))
    assert (grays[0] * grays[1]).sum() == pytest.approx(1, abs=1e-5)
    assert (details[0] * details[1]).sum() == pytest.approx(1, abs=1e-4)
    flat = [(part @ [0.299, 0.587, 0.114]).ravel() for part in (one, other)]
    assert (grays[0] * grays[2]).sum() == pytest.approx(np.corrcoef(*flat)[0, 1], abs=1e-4)
    assert abs((details[0] * details[2]).sum()) < 0.5


def test_copies_saved_anew_stay_in_one_of_our_splits(folder):
    before = load(folder)
    for i in range(6):
        whole = picture(i)
        whole.save(folder / "ant" / f"{i:02} again.jpg", quality=60)
        whole.resize((120, 120), Image.LANCZOS).save(folder / "ant" / f"{i:02} small.jpg", quality=90)
    for seed in range(3):
        data = load(folder, seed=seed)
        split_of = {}
        for path, split in zip(data.paths, data.split, strict=True):
            assert split_of.setdefault(path[:6], split) == split
        assert data.findings == []
        assert len(set(data.groups)) == 24
    assert len(set(before.groups)) == len(before) == 24


def test_copies_in_given_splits_are_leaks(tmp_path):
    for split, first in (("train", 0), ("test", 500)):
        for number, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(6):
                picture(first + 100 * number + i).save(tmp_path / split / name / f"{i}.png")
    picture(3).save(tmp_path / "test/ant/copy.jpg", quality=70)
    picture(100).save(tmp_path / "test/ant/wrong.jpg", quality=70)
    findings = load(tmp_path).findings
    leaks = {(finding["path"], finding["other"]) for finding in findings if finding["kind"] == "leak"}
    assert leaks == {("train/ant/3.png", "test/ant/copy.jpg"), ("train/bee/0.png", "test/ant/wrong.jpg")}
    (conflict,) = [finding for finding in findings if finding["kind"] == "conflicting_label"]
    assert conflict["path"] == "train/bee/0.png"
    assert "labelled 'bee' while that is 'ant'" in conflict["problem"]
    assert not any(finding["left_out"] for finding in findings)


def test_another_colour_or_brightness_is_another_picture():
    """Of one thing in two colours, one may well be of another class."""
    one = thumbnail(np.array(picture(1)))
    thumbnails = np.stack([one, one[..., ::-1], one * 0.7, one[:, ::-1]])
    hashes = [perceptual_hash(image) for image in thumbnails]
    assert copies_among(hashes, thumbnails.__getitem__, list("abcd")) == []
    assert copies_among([hashes[0]] * 2, [one, one + 1].__getitem__, ["a", "b"]) == [(0, 1)]


def test_digits_are_no_copies_of_each_other():
    from sklearn.datasets import load_digits

    images = (load_digits().images * 15.9375).astype(np.uint8)
    thumbnails = np.stack([thumbnail(np.repeat(image[..., None], 3, axis=2)) for image in images])
    hashes = [perceptual_hash(image) for image in thumbnails]
    assert len(close_pairs(np.array(hashes, np.uint64), 3)) > 10  # the hashes alone would say so
    assert copies_among(hashes, thumbnails.__getitem__, range(len(images))) == []


def test_handwritten_digits_are_no_copies_of_each_other(shared_data):
    images = np.load(shared_data / "mnist.npz")["x_test"][:5000]
    thumbnails = np.stack([thumbnail(np.repeat(image[..., None], 3, axis=2)) for image in images])
    hashes = [perceptual_hash(image) for image in thumbnails]
    assert copies_among(hashes, thumbnails.__getitem__, range(len(images))) == []


def test_real_photos_keep_their_fingerprints(shared_data):
    """There are no copies in them, so nothing about their splits changed when copies came to be looked for."""
    assert load(shared_data / "clothing").fingerprint.startswith("40cdade72582bbde")
    assert load(shared_data / "hymenoptera").fingerprint.startswith("c9b9f84dce7c0284")
