"""The linear probe, against scikit-learn's models and against what follows from its definition."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from tlkit.errors import DataError
from tlkit.tasks import Task
from tlkit.training import probe as probing
from tlkit.training.probe import STRENGTHS, fit_probe

SINGLE = Task("single_label", ("a", "b", "c", "d"))
MULTI = Task("multilabel", ("x", "y", "z"))
NUMBER = Task("regression", mean=40.0, scale=12.5)


def images(count, width=30, seed=0):
    """Return features with an offset and a few strong directions, and labels of every kind that hang on them."""
    random = np.random.default_rng(seed)
    shared = np.random.default_rng(99)
    spread = np.geomspace(4, 0.05, width)
    features = random.normal(size=(count, width)) * spread + 3 + shared.normal(size=width)
    signal = (features - 3) @ shared.normal(size=(width, 5)) / 4 + random.normal(size=(count, 5))
    labels = {
        "single": signal[:, :4].argmax(axis=1).astype("int32"),
        "multi": (signal[:, :3] > 1).astype("int8"),
        "number": 40 + 12.5 * signal[:, 4] / 3,
    }
    return features.astype("float32"), labels


def standardized(features, reference):
    """Return float64 features, centred and scaled as the penalty's definition says."""
    centred = features.astype("float64") - reference.mean(axis=0, dtype="float64")
    around = reference.astype("float64") - reference.mean(axis=0, dtype="float64")
    return centred / np.sqrt((around**2).sum(axis=1).mean())


def fit(task, key, count=200, width=30, **settings):
    features, labels = images(count, width)
    val_features, val_labels = images(80, width, seed=1)
    return fit_probe(features, labels[key], task, val_features, val_labels[key], **settings)


def same(one, other):
    return np.array_equal(one.kernel, other.kernel) and np.array_equal(one.bias, other.bias)


def logistic_regression(features, labels, strength, weights=None):
    """Fit scikit-learn's model with the same objective; it sums the losses where ours takes their mean."""
    model = LogisticRegression(C=1 / (len(labels) * strength), tol=1e-8, max_iter=10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with so small a tolerance
        return model.fit(features, labels, weights)


# The optimum


@pytest.mark.parametrize(("count", "width"), [(200, 30), (60, 150)])
@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
def test_classes_get_the_optimum_of_multinomial_logistic_regression(count, width, strength):
    features, labels = images(count, width)
    val_features, val_labels = images(80, width, seed=1)
    probe = fit(SINGLE, "single", count, width, strengths=[strength])
    theirs = logistic_regression(standardized(features, features), labels["single"], strength)
    for wanted, of in ((labels, features), (val_labels, val_features)):
        logits = of @ probe.kernel + probe.bias
        ours = log_loss(wanted["single"], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        expected = log_loss(wanted["single"], theirs.predict_proba(standardized(of, features)))
        assert ours == pytest.approx(expected, abs=2e-3)
    assert probe.val_loss == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("strength", [1e-2, 1e-4])
def test_several_labels_get_a_logistic_regression_each(strength):
    features, labels = images(200)
    val_features, val_labels = images(80, seed=1)
    probe = fit(MULTI, "multi", strengths=[strength])
    logits = val_features @ probe.kernel + probe.bias
    losses = []
    for column in range(3):
        theirs = logistic_regression(standardized(features, features), labels["multi"][:, column], strength)
        theirs_of_val = theirs.predict_proba(standardized(val_features, features))[:, 1]
        losses.append(log_loss(val_labels["multi"][:, column], theirs_of_val))
        ours = log_loss(val_labels["multi"][:, column], 1 / (1 + np.exp(-logits[:, column])))
        assert ours == pytest.approx(losses[-1], abs=1e-3)
    assert probe.val_loss == pytest.approx(np.mean(losses), abs=1e-3)


@pytest.mark.parametrize(("count", "width"), [(200, 30), (60, 150)])
@pytest.mark.parametrize("strength", [1e-1, 1e-5])
def test_numbers_get_ridge_regression(count, width, strength):
    features, labels = images(count, width)
    val_features, val_labels = images(80, width, seed=1)
    probe = fit(NUMBER, "number", count, width, strengths=[strength])
    theirs = Ridge(alpha=count * strength / 2).fit(standardized(features, features), (labels["number"] - 40) / 12.5)
    expected = theirs.predict(standardized(val_features, features))
    np.testing.assert_allclose((val_features @ probe.kernel + probe.bias)[:, 0], expected, atol=2e-3)
    assert probe.val_loss == pytest.approx(np.mean((expected - (val_labels["number"] - 40) / 12.5) ** 2), abs=1e-3)


def test_class_weights_count_an_image_several_times():
    features, labels = images(200)
    val_features, val_labels = images(80, seed=1)
    weights = np.array([1.0, 2.0, 5.0, 1.0])
    probe = fit(SINGLE, "single", class_weights=weights, strengths=[1e-3])
    theirs = LogisticRegression(C=1 / (weights[labels["single"]].sum() * 1e-3), tol=1e-8, max_iter=10_000)
    theirs.fit(standardized(features, features), labels["single"], weights[labels["single"]])
    logits = val_features @ probe.kernel + probe.bias
    ours = log_loss(val_labels["single"], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    expected = log_loss(val_labels["single"], theirs.predict_proba(standardized(val_features, features)))
    assert ours == pytest.approx(expected, abs=1e-3)
    assert ours != pytest.approx(fit(SINGLE, "single", strengths=[1e-3]).val_loss, abs=0.02)


# The choice of the penalty


def test_the_strength_that_validates_best_is_chosen():
    each = {strength: fit(SINGLE, "single", strengths=[strength]).val_loss for strength in STRENGTHS}
    probe = fit(SINGLE, "single")
    assert probe.strength == min(each, key=each.get)
    assert STRENGTHS[0] > probe.strength > STRENGTHS[-1]
    assert probe.val_loss == pytest.approx(each[probe.strength], abs=1e-3)


def test_labels_that_are_chance_get_a_strong_penalty():
    features, _ = images(60, 150)
    val_features, _ = images(80, 150, seed=1)
    random = np.random.default_rng(0)
    labels, val_labels = random.integers(0, 4, 60), random.integers(0, 4, 80)
    probe = fit_probe(features, labels, SINGLE, val_features, val_labels)
    assert probe.strength >= 1e-2
    assert probe.val_loss < np.log(4) + 0.05


@pytest.mark.parametrize("task", [SINGLE, MULTI, NUMBER], ids=lambda task: task.kind)
def test_of_strengths_that_validate_alike_the_largest_is_chosen(task):
    key = {"single_label": "single", "multilabel": "multi", "regression": "number"}[task.kind]
    _, labels = images(200)
    nothing = np.full((200, 6), 2.5, "float32")
    probe = fit_probe(nothing, labels[key], task, nothing[:80], images(80, seed=1)[1][key])
    assert probe.strength == STRENGTHS[0]
    assert probe.kernel.shape == (6, task.num_outputs)
    assert not probe.kernel.any()


def test_features_that_say_nothing_leave_the_classes_shares():
    _, labels = images(200)
    probe = fit_probe(
        np.zeros((200, 6), "float32"), labels["single"], SINGLE, np.zeros((1, 6), "float32"), np.zeros(1, int)
    )
    shares = np.exp(probe.bias) / np.exp(probe.bias).sum()
    np.testing.assert_allclose(shares, np.bincount(labels["single"]) / 200, atol=2e-3)


def test_the_path_ends_where_validation_got_worse_three_times(monkeypatch):
    tried, fit_one = [], probing._Path.fit
    monkeypatch.setattr(probing._Path, "fit", lambda path, strength: tried.append(strength) or fit_one(path, strength))
    probe = fit(SINGLE, "single", strengths=STRENGTHS[::-1])
    assert tried == list(STRENGTHS[: len(tried)])
    assert tried.index(probe.strength) == len(tried) - 4


def test_without_validation_labels_the_strongest_is_chosen():
    features, labels = images(200)
    probe = fit_probe(features, labels["single"], SINGLE, features[:5], np.full(5, -1))
    assert probe.strength == STRENGTHS[0]
    assert np.isnan(probe.val_loss)


def test_a_strength_means_the_same_for_features_of_any_scale():
    features, labels = images(200)
    val_features, val_labels = images(80, seed=1)
    probe = fit(SINGLE, "single")
    scaled = fit_probe(1000 * features + 5, labels["single"], SINGLE, 1000 * val_features + 5, val_labels["single"])
    assert scaled.strength == probe.strength
    assert scaled.val_loss == pytest.approx(probe.val_loss, abs=1e-3)


# What is missing


@pytest.mark.parametrize(
    ("task", "key", "missing"),
    [(SINGLE, "single", -1), (MULTI, "multi", -1), (NUMBER, "number", np.nan)],
    ids=["single_label", "multilabel", "regression"],
)
def test_images_without_a_label_might_as_well_not_be_there(task, key, missing):
    features, labels = images(200)
    val_features, val_labels = images(80, seed=1)
    labels, val_labels = labels[key].copy(), val_labels[key].copy()
    if key == "multi":
        labels[::3, 1], val_labels[::5, 2] = missing, missing  # one of the three
    else:
        labels[::3], val_labels[::5] = missing, missing
    probe = fit_probe(features, labels, task, val_features, val_labels)
    there, val_there = np.arange(200) % 3 > 0, np.arange(80) % 5 > 0
    expected = fit_probe(features[there], labels[there], task, val_features[val_there], val_labels[val_there])
    assert same(probe, expected)
    assert probe.val_loss == expected.val_loss


@pytest.mark.parametrize(("task", "key"), [(SINGLE, "single"), (MULTI, "multi")])
def test_a_class_without_images_gets_a_finite_bias(task, key):
    features, labels = images(200)
    val_features, val_labels = images(80, seed=1)
    if key == "single":
        kept = labels["single"] != 3
        probe = fit_probe(features[kept], labels["single"][kept], SINGLE, val_features, val_labels["single"])
    else:
        labels["multi"][:, 1] = 1  # a class that all images have is as one-sided
        probe = fit_probe(features, labels["multi"], MULTI, val_features, val_labels["multi"])
    assert np.isfinite(probe.kernel).all()
    assert np.abs(probe.bias).max() < 100
    assert np.isfinite(probe.val_loss)
    logits = val_features @ probe.kernel + probe.bias
    if key == "single":
        assert (logits.argmax(axis=1) != 3).all()
    else:
        assert (logits[:, 1] > 2).all()


def test_no_label_at_all_is_refused():
    features, _ = images(20)
    with pytest.raises(DataError, match="none of 20 for training has a label for a single_label task"):
        fit_probe(features, np.full(20, -1), SINGLE, features, np.zeros(20, int))


# What it costs


@pytest.mark.parametrize(("task", "key"), [(SINGLE, "single"), (MULTI, "multi"), (NUMBER, "number")])
def test_equal_input_gives_equal_bits(task, key):
    one, other = fit(task, key), fit(task, key)
    assert same(one, other)
    assert (one.strength, one.val_loss) == (other.strength, other.val_loss)
    assert one.kernel.dtype == one.bias.dtype == np.float32


def test_of_too_many_images_some_of_every_class_stand_for_all(monkeypatch):
    features, labels = images(2000)
    val_features, val_labels = images(80, seed=1)
    seen, make_basis = [], probing._Basis
    monkeypatch.setattr(probing, "_Basis", lambda features: seen.append(features) or make_basis(features))
    monkeypatch.setattr(probing, "MAX_VALUES", 500 * 30)
    probes = [fit_probe(features, labels["single"], SINGLE, val_features, val_labels["single"]) for _ in range(2)]
    assert same(*probes)
    assert seen[0].shape == (500, 30)
    rows = {row.tobytes(): number for number, row in enumerate(features)}
    chosen = [rows[row.tobytes()] for row in seen[0]]
    assert chosen == sorted(set(chosen))
    shares = np.bincount(labels["single"][chosen], minlength=4)
    np.testing.assert_allclose(shares, np.bincount(labels["single"]) / 4, atol=1)
    monkeypatch.undo()
    whole = fit_probe(features, labels["single"], SINGLE, val_features, val_labels["single"])
    assert probes[0].val_loss == pytest.approx(whole.val_loss, abs=0.1)
