import numpy as np
import pytest

from tlkit.data.mixing import mix_batch, mixed_epochs


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 20, 30, 3), dtype=np.uint8)


def flat(batch, height=20, width=30):
    """Images of one value each, different from all others: what was pasted where can be read off."""
    return np.broadcast_to(np.arange(batch, dtype=np.uint8)[:, None, None, None], (batch, height, width, 3))


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_what_is_mixed_is_a_function_of_seed_and_step(images, settings):
    before = images.copy()
    mixed, partners, shares = mix_batch(images, 3, 17, **settings)
    for one, other in zip((mixed, partners, shares), mix_batch(images, 3, 17, **settings), strict=True):
        assert np.array_equal(one, other)
    assert (mixed.dtype, partners.dtype, shares.dtype) == (np.float32, np.int64, np.float32)
    assert (mixed.shape, partners.shape, shares.shape) == (images.shape, (16,), (16,))
    assert np.array_equal(images, before)
    for seed, step in ((4, 17), (3, 18), (17, 3)):
        assert not np.array_equal(mix_batch(images, seed, step, **settings)[2], shares)
    again = mix_batch(images.astype(np.float32), 3, 17, **settings)[0]
    assert np.array_equal(again, mixed)


def test_partners_are_one_cycle(images):
    for step in range(30):
        partners = mix_batch(images[:7], 0, step, mixup=1.0)[1]
        seen, i = [], 0
        for _ in range(7):
            i = int(partners[i])
            seen.append(i)
        assert sorted(seen) == list(range(7))


def test_mixup_is_the_weighted_sum(images):
    mixed, partners, shares = mix_batch(images, 0, 5, mixup=0.4)
    for i in range(16):
        expected = shares[i] * images[i].astype(float) + (1 - shares[i]) * images[partners[i]]
        np.testing.assert_allclose(mixed[i], expected, atol=1e-3)
    assert mixed.min() >= 0
    assert mixed.max() <= 255


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    blank = np.zeros((64, 1, 1, 3), np.uint8)
    shares = np.concatenate([mix_batch(blank, 1, step, mixup=alpha)[2] for step in range(200)])
    assert shares.mean() == pytest.approx(0.5, abs=0.015)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize(("height", "width"), [(20, 30), (1, 1), (7, 224)])
def test_cutmix_shares_are_those_of_the_own_pixels(height, width):
    batch = flat(9, height, width)
    for step in range(50):
        mixed, partners, shares = mix_batch(batch, 2, step, cutmix=1.0)
        for i in range(9):
            own = mixed[i] == i
            assert shares[i] == np.float32(own.mean())
            assert (mixed[i][~own] == partners[i]).all()


def test_cutmix_pastes_one_box_in_its_place(images):
    mixed, partners, shares = mix_batch(images, 0, 1, cutmix=1.0)
    for i in np.flatnonzero((shares > 0) & (shares < 1)):
        rows, columns = np.nonzero((mixed[i] != images[i]).any(axis=-1))
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.array_equal(mixed[i][box], images[partners[i]][box])
    assert ((shares > 0) & (shares < 1)).sum() >= 10


def test_the_mean_share_of_cutmix_follows_from_uniform_boxes():
    """Alpha 1: the box has a uniform share r^2 of the area, its centre is anywhere, and what sticks out is lost.

    A side r keeps r - r^2 / 4 of itself on average, so the mean area pasted is E[(r - r^2 / 4)^2] with E[r^2] = 1/2,
    E[r^3] = 2/5, E[r^4] = 1/3.
    """
    batch = flat(64, 100, 100)
    shares = np.concatenate([mix_batch(batch, 0, step, cutmix=1.0)[2] for step in range(50)])
    assert shares.mean() == pytest.approx(1 - (1 / 2 - 2 / 5 / 2 + 1 / 3 / 16), abs=0.015)


def test_with_both_each_batch_takes_one_of_them():
    batch = flat(8)
    cut = 0
    for step in range(400):
        mixed, partners, _ = mix_batch(batch, 0, step, mixup=1.0, cutmix=1.0)
        own, partner = np.arange(8)[:, None, None, None], partners[:, None, None, None]
        cut += bool(((mixed == own) | (mixed == partner)).all())
    assert 160 <= cut <= 240


def test_nothing_to_mix_with_or_nothing_asked_for(images):
    for batch, settings in ((images[:1], {"mixup": 1.0, "cutmix": 1.0}), (images, {}), (images[:0], {"mixup": 1.0})):
        mixed, partners, shares = mix_batch(batch, 0, 0, **settings)
        assert mixed.dtype == np.float32
        assert np.array_equal(mixed, batch)
        assert np.array_equal(partners, np.arange(len(batch)))
        assert (shares == 1).all()
        assert (partners.dtype, shares.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize(
    ("epochs", "mix_off", "mixed"),
    [(20, 0.25, 15), (10, 0.25, 7), (1, 0.25, 1), (2, 0.25, 1), (5, 0.0, 5), (5, 1.0, 0), (3, 0.5, 1)],
)
def test_the_last_epochs_are_not_mixed(epochs, mix_off, mixed):
    assert mixed_epochs(epochs, mix_off) == mixed
