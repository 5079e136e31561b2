"""Losses by independent formulas: scikit-learn's and ones that a reader can follow."""

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from tlkit.tasks import Task
from tlkit.training.losses import Objective, Validation, kernel_penalty
from tlkit.training.targets import Targets

TASKS = {
    "kind": Task("single_label", ("a", "b", "c")),
    "parts": Task("multilabel", ("x", "y")),
    "count": Task("regression", mean=10.0, scale=4.0),
}
RANDOM = np.random.default_rng(0)
LOGITS = {
    "kind": RANDOM.normal(size=(6, 3)).astype("float32"),
    "parts": RANDOM.normal(size=(6, 2)).astype("float32"),
    "count": RANDOM.normal(size=(6, 1)).astype("float32"),
}
LABELS = {
    "kind": np.array([0, 1, 2, 2, 1, 0], np.int32),
    "parts": np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1]], np.int8),
    "count": np.array([10.0, 14.0, 6.0, 12.0, 8.0, 30.0]),
}
MISSING = {
    "kind": np.array([0, -1, 2, 2, -1, 0], np.int32),
    "parts": np.array([[0, 1], [-1, -1], [0, 0], [1, 0], [0, 1], [-1, -1]], np.int8),
    "count": np.array([10.0, np.nan, 6.0, np.nan, 8.0, 30.0]),
}


def one(name):
    return {name: TASKS[name]}, {name: LOGITS[name]}, {name: LABELS[name]}


def loss_of(tasks, logits, labels, *, smoothing=0.0, class_weights=None, gamma=0.0, weights=None, **mixing):
    targets = Targets(tasks, smoothing, class_weights).encode(labels, **mixing)
    return float(Objective(tasks, weights, gamma).total(logits, targets))


def squared_errors(name="count", labels=LABELS):
    return (LOGITS[name][:, 0] - (labels[name] - 10.0) / 4.0) ** 2


def test_single_label_is_cross_entropy():
    expected = log_loss(LABELS["kind"], softmax(LOGITS["kind"].astype(float), axis=1))
    assert loss_of(*one("kind")) == pytest.approx(expected, rel=1e-5)


def test_multilabel_is_the_mean_binary_cross_entropy():
    p = expit(LOGITS["parts"].astype(float))
    expected = np.mean([log_loss(LABELS["parts"][:, k], p[:, k], labels=[0, 1]) for k in (0, 1)])
    assert loss_of(*one("parts")) == pytest.approx(expected, rel=1e-5)


def test_regression_is_the_squared_error_of_standardized_numbers():
    assert loss_of(*one("count")) == pytest.approx(squared_errors().mean(), rel=1e-5)


def test_the_loss_is_the_stated_sum():
    parts = {name: loss_of(*one(name)) for name in TASKS}
    assert loss_of(TASKS, LOGITS, LABELS) == pytest.approx(sum(parts.values()), rel=1e-5)
    weighted = loss_of(TASKS, LOGITS, LABELS, weights={"kind": 0.5, "count": 3.0})
    assert weighted == pytest.approx(0.5 * parts["kind"] + parts["parts"] + 3 * parts["count"], rel=1e-5)


def test_learned_weights_are_kendalls():
    """L / (2 var) + log(var) / 2 of a number, L / var + log(var) / 2 of classes."""
    parts = {name: loss_of(*one(name)) for name in TASKS}
    s = np.array([0.3, -0.7, 1.1], np.float32)
    halves = {"kind": 1.0, "parts": 1.0, "count": 0.5}
    expected = sum(halves[name] * parts[name] / np.exp(s[i]) + np.log(np.exp(s[i])) / 2 for i, name in enumerate(TASKS))
    received = Objective(TASKS, "uncertainty").total(LOGITS, Targets(TASKS).encode(LABELS), s)
    assert float(received) == pytest.approx(float(expected), rel=1e-5)


def test_a_task_without_labels_in_a_batch_leaves_its_learned_weight_alone():
    import tensorflow as tf

    s = tf.Variable([0.3, -0.7, 1.1])
    labels = LABELS | {"kind": np.full(6, -1, np.int32)}
    with tf.GradientTape() as tape:
        loss = Objective(TASKS, "uncertainty").total(LOGITS, Targets(TASKS).encode(labels), s)
    gradient = tape.gradient(loss, s).numpy()
    assert gradient[0] == 0
    assert np.all(gradient[1:] != 0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_focal_loss_of_a_sure_answer_has_a_finite_gradient(gamma):
    import tensorflow as tf

    logits = {"kind": tf.Variable([[90.0, -90.0, 0.0]])}
    tasks = {"kind": TASKS["kind"]}
    with tf.GradientTape() as tape:
        loss = Objective(tasks, focal_gamma=gamma).total(logits, Targets(tasks).encode({"kind": np.array([0])}))
    assert np.isfinite(tape.gradient(loss, logits["kind"]).numpy()).all()


@pytest.mark.parametrize("name", TASKS)
def test_a_missing_label_is_as_if_the_image_were_not_there(name):
    known = np.flatnonzero(np.isfinite(MISSING[name]) if name == "count" else MISSING[name].reshape(6, -1)[:, 0] >= 0)
    tasks = {name: TASKS[name]}
    masked = loss_of(tasks, {name: LOGITS[name]}, {name: MISSING[name]})
    without = loss_of(tasks, {name: LOGITS[name][known]}, {name: MISSING[name][known]})
    assert masked == pytest.approx(without, rel=1e-5)
    validation = Validation(tasks, {name: LOGITS[name]}, {name: MISSING[name]}, {name: 1.0})
    assert validation.loss == pytest.approx(without, rel=1e-5)


def test_a_batch_without_any_label_costs_nothing():
    nothing = {"kind": np.full(6, -1, np.int32), "parts": np.full((6, 2), -1), "count": np.full(6, np.nan)}
    assert loss_of(TASKS, LOGITS, nothing) == 0.0


def test_missing_labels_have_no_gradient():
    import tensorflow as tf

    logits = {name: tf.Variable(values) for name, values in LOGITS.items()}
    with tf.GradientTape() as tape:
        loss = Objective(TASKS).total(logits, Targets(TASKS).encode(MISSING))
    gradient = tape.gradient(loss, logits)
    assert np.all(gradient["kind"].numpy()[[1, 4]] == 0)
    assert np.all(gradient["parts"].numpy()[[1, 5]] == 0)
    assert np.all(gradient["count"].numpy()[[1, 3]] == 0)
    assert np.all(gradient["kind"].numpy()[[0, 2, 3, 5]] != 0)


def test_label_smoothing_is_keras_s():
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = float(keras_loss(np.eye(3)[LABELS["kind"]], LOGITS["kind"]))
    assert loss_of(*one("kind"), smoothing=0.2) == pytest.approx(expected, rel=1e-5)
    binary = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = float(binary(LABELS["parts"].astype("float32"), LOGITS["parts"]))
    assert loss_of(*one("parts"), smoothing=0.2) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_keras_s():
    keras_loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    expected = float(keras_loss(np.eye(3)[LABELS["kind"]], LOGITS["kind"]))
    assert loss_of(*one("kind"), gamma=2.0) == pytest.approx(expected, rel=1e-4)
    binary = keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    expected = float(binary(LABELS["parts"].astype("float32"), LOGITS["parts"]))
    assert loss_of(*one("parts"), gamma=2.0) == pytest.approx(expected, rel=1e-4)


def test_class_weights_weigh_each_image_by_its_class():
    weights = np.array([0.5, 1.0, 3.0], np.float32)
    p = softmax(LOGITS["kind"].astype(float), axis=1)[np.arange(6), LABELS["kind"]]
    expected = (weights[LABELS["kind"]] * -np.log(p)).mean()
    assert loss_of(*one("kind"), class_weights={"kind": weights}) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["kind", "parts"])
def test_a_mixed_target_costs_the_shares_of_both_labels(name):
    tasks, logits, labels = one(name)
    partners, shares = np.array([1, 2, 3, 4, 5, 0]), np.linspace(0.1, 0.9, 6).astype(np.float32)

    def each(of):
        return np.array([loss_of(tasks, {name: logits[name][[i]]}, {name: of[[i]]}) for i in range(6)])

    own, partner = each(labels[name]), each(labels[name][partners])
    expected = (shares * own + (1 - shares) * partner).mean()
    assert loss_of(*one(name), partners=partners, shares=shares) == pytest.approx(expected, rel=1e-4)


def test_a_mixed_number_is_the_mean_of_both_and_unknown_where_one_is():
    partners, shares = np.array([1, 2, 3, 4, 5, 0]), np.array([0.5, 0.5, 1.0, 0.25, 0.75, 0.5], np.float32)
    target = Targets({"count": TASKS["count"]}).encode({"count": MISSING["count"]}, partners, shares)["count"]
    # 0 and 5 mix known with unknown or known: 10 with nan, nan with 6, 6 alone, nan with 8, 8 with 30, 30 with 10.
    assert target["known"].tolist() == [0, 0, 1, 0, 1, 1]
    expected = {2: 6.0, 4: 0.75 * 8 + 0.25 * 30, 5: 0.5 * 30 + 0.5 * 10}
    for place, number in expected.items():
        assert target["value"][place, 0] == pytest.approx((number - 10) / 4, rel=1e-6)


def test_validation_is_the_weighted_sum_of_means():
    weights = {"kind": 0.5, "parts": 1.0, "count": 2.0}
    validation = Validation(TASKS, LOGITS, LABELS, weights)
    parts = {name: loss_of(*one(name)) for name in TASKS}
    assert validation.loss == pytest.approx(sum(weights[name] * parts[name] for name in TASKS), rel=1e-5)
    right = (LOGITS["kind"].argmax(1) == LABELS["kind"]).mean()
    hits = ((LOGITS["parts"] > 0) == LABELS["parts"]).mean()
    assert validation.score == pytest.approx((right + hits + 1 - squared_errors().mean()) / 3)
    assert validation.losses.shape == (6,)
    assert validation.by_task["kind"] == (pytest.approx(parts["kind"], rel=1e-5), pytest.approx(right))


def test_the_training_score_is_the_validations():
    score = float(Objective(TASKS).score(LOGITS, Targets(TASKS).encode(LABELS)))
    expected = Validation(TASKS, LOGITS, LABELS, dict.fromkeys(TASKS, 1.0)).score
    assert score == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_on_kernels_alone():
    kernel, bias = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32), np.array([100.0, 100.0], np.float32)
    variables = [keras.Variable(kernel), keras.Variable(bias)]
    assert float(kernel_penalty(variables, l1=0.1, l2=0.0)) == pytest.approx(0.1 * 6.5)
    assert float(kernel_penalty(variables, l1=0.0, l2=0.1)) == pytest.approx(0.1 * 14.25)
