"""Temperatures: known ones are found again, the fit is the least log loss, small sets do little harm."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from tlkit.evaluation import calibration
from tlkit.evaluation.calibration import (
    before_and_after,
    choose_temperature,
    fit_temperature,
    log_losses,
    logits_from,
    scaled,
)
from tlkit.tasks import Task

FIVE = Task("single_label", tuple("abcde"))
TAGS = Task("multilabel", ("x", "y", "z"))
NUMBER = Task("regression", mean=3.0, scale=2.0)


def draw(task, n, temperature, seed=0):
    """Return labels drawn from the probabilities of some logits, and these logits times `temperature`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, len(task.classes)))
    if task.kind == "multilabel":
        return (random.random(logits.shape) < expit(logits)).astype(np.int8), logits * temperature
    drawn = (random.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return np.minimum(drawn, len(task.classes) - 1), logits * temperature


def probabilities_of(task, logits):
    return (softmax(logits, axis=1) if task.kind == "single_label" else expit(logits)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("task", [FIVE, TAGS], ids=lambda task: task.kind)
def test_a_known_temperature_is_found_again(task, temperature):
    labels, logits = draw(task, 20_000, temperature)
    assert fit_temperature(labels, logits, task) == pytest.approx(temperature, rel=0.03)
    scaling = choose_temperature(labels, probabilities_of(task, logits), task)
    assert scaling.kept == (temperature != 1)
    assert scaling.temperature == pytest.approx(temperature, rel=0.03)
    if scaling.kept:
        assert scaling.cross_fitted < scaling.before


@pytest.mark.parametrize("prior_images", [0, 40])
@pytest.mark.parametrize("task", [FIVE, TAGS], ids=lambda task: task.kind)
def test_the_fit_is_the_least_log_loss_on_a_grid(task, prior_images):
    labels, logits = draw(task, 60, 1.8, seed=3)
    own = probabilities_of(task, logits).astype(np.float64)

    def objective(temperature):
        total = log_losses(labels, logits / temperature, task).sum()
        if task.kind == "single_label":
            expected = -(own * np.log(softmax(logits / temperature, axis=1))).sum(axis=1)
        else:
            p = expit(logits / temperature)
            expected = -(own * np.log(p) + (1 - own) * np.log(1 - p)).mean(axis=1)
        return total + prior_images * expected.mean()

    grid = np.linspace(0.5, 4, 3501)
    best = grid[np.argmin([objective(temperature) for temperature in grid])]
    assert fit_temperature(labels, logits, task, prior_images) == pytest.approx(best, abs=2e-3)


def test_without_images_the_temperature_would_be_one():
    labels, logits = draw(FIVE, 1, 3.0)
    drawn = [fit_temperature(labels, logits, FIVE, prior_images) for prior_images in (0, 1e2, 1e6)]
    assert abs(drawn[0] - 1) > abs(drawn[1] - 1) > abs(drawn[2] - 1)
    assert drawn[2] == pytest.approx(1, abs=1e-3)


def test_where_all_is_right_the_temperature_stays_finite():
    logits = np.random.default_rng(0).normal(0, 1, (30, 5))
    assert fit_temperature(logits.argmax(axis=1), logits, FIVE, prior_images=0) == 1 / 20  # the bound
    assert 0.2 < fit_temperature(logits.argmax(axis=1), logits, FIVE) < 1
    assert fit_temperature(logits.argmin(axis=1), logits, FIVE) == 20


@pytest.mark.parametrize("task", [FIVE, TAGS], ids=lambda task: task.kind)
def test_scaling_divides_logits_and_can_be_undone(task):
    _, logits = draw(task, 50, 2.0)
    as_was = probabilities_of(task, logits)
    divided = scaled(as_was, 2.0, task)
    np.testing.assert_allclose(divided, probabilities_of(task, logits / 2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scaled(divided, 0.5, task), as_was, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(divided.argmax(axis=1), as_was.argmax(axis=1))


def test_certain_probabilities_have_finite_logits():
    certain = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    for task in (Task("single_label", tuple("abc")), TAGS):
        assert np.isfinite(logits_from(certain, task)).all()
        assert np.isfinite(scaled(certain, 0.3, task)).all()


def test_what_can_not_be_calibrated_says_why():
    few = choose_temperature(np.arange(29) % 5, np.full((29, 5), 0.2, np.float32), FIVE)
    assert few.describe("label") == "calibration: none, it takes 30 labelled validation images, and there are 29"
    none = choose_temperature(np.full(40, -1), np.full((40, 5), 0.2, np.float32), FIVE)
    assert (none.temperature, none.kept, none.applied, none.n) == (None, False, 1.0, 0)
    assert "there are 0" in none.reason
    number = choose_temperature(np.ones(40), np.ones((40, 1), np.float32), NUMBER)
    assert number.reason == "numbers have no probability"


def test_images_without_a_label_count_for_nothing():
    labels, logits = draw(FIVE, 200, 2.5)
    probabilities = probabilities_of(FIVE, logits)
    holes = np.concatenate([labels, np.full(50, -1)])
    padded = np.concatenate([probabilities, probabilities[:50]])
    assert choose_temperature(holes, padded, FIVE) == choose_temperature(labels, probabilities, FIVE)


def test_the_line_on_screen():
    labels, logits = draw(FIVE, 200, 2.5)
    scaling = choose_temperature(labels, probabilities_of(FIVE, logits), FIVE)
    line = scaling.describe("species")
    assert line.startswith(f"calibration of species: temperature {scaling.temperature:.2f} on 200 validation images;")
    assert line.endswith("there, cross-fitted; kept")
    labels, logits = draw(FIVE, 200, 1.0)
    scaling = choose_temperature(labels, probabilities_of(FIVE, logits), FIVE)
    reason = "the gain may be chance" if scaling.cross_fitted < scaling.before else "it gains nothing"
    assert scaling.describe("label").endswith(f"left out: {reason}")
    assert scaling.applied == 1


def test_figures_before_are_worked_out_from_those_after():
    labels, logits = draw(FIVE, 400, 2.5)
    probabilities = probabilities_of(FIVE, logits)
    scaling = choose_temperature(labels, probabilities, FIVE)
    figures = before_and_after(labels, scaled(probabilities, scaling.temperature, FIVE), scaling, FIVE)
    before, after = figures["before"], figures["after"]
    assert before["log_loss"] == pytest.approx(log_losses(labels, logits, FIVE).mean(), rel=1e-4)
    assert after["log_loss"] < before["log_loss"]
    assert after["ece"] < before["ece"]
    assert sum(row["n"] for row in after["reliability"]) == 400
    assert before_and_after(np.full(3, -1), probabilities[:3], scaling, FIVE) is None


@pytest.mark.parametrize("n", [30, 50])
def test_a_calibrated_model_is_hardly_harmed_by_small_sets(n):
    """Two hundred small validation sets of a model that is right already: what is lost on average on all images."""
    labels, logits = draw(FIVE, 40_000, 1.0)
    probabilities, losses = probabilities_of(FIVE, logits), []
    for start in range(0, 200 * n, n):
        part = slice(start, start + n)
        scaling = choose_temperature(labels[part], probabilities[part], FIVE)
        if scaling.kept:
            sample = slice(20_000, 24_000)
            of_scaled = log_losses(labels[sample], logits[sample] / scaling.temperature, FIVE).mean()
            losses.append(of_scaled - log_losses(labels[sample], logits[sample], FIVE).mean())
    assert sum(losses) / 200 < 0.002
    assert calibration.FEWEST_IMAGES == 30  # what this was measured for
