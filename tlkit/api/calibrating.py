"""What a run does with its validation images once training is over: temperatures into the model, conformal sets."""

import math
from dataclasses import dataclass, field, replace

from tlkit.api.caching import kept_evaluation
from tlkit.api.parts import make_splits
from tlkit.data.labels import labelled
from tlkit.data.tta import find_views
from tlkit.errors import RecipeError
from tlkit.evaluation.calibration import before_and_after, choose_temperature
from tlkit.evaluation.conformal import coverage_figures, fewest_images, fit_threshold
from tlkit.evaluation.infer import predict_sets


@dataclass(frozen=True)
class Calibration:
    """What the validation images said of the probabilities.

    Attributes:
        scalings: Dict of task name to `Scaling`; empty where the recipe wants none.
        probabilities: Dict of task name to the validation images' probabilities, if the model still gives these.
    """

    scalings: dict = field(default_factory=dict)
    probabilities: dict | None = None

    @property
    def uses(self):
        """What the validation images were used for besides choosing the epoch, as in `used_for`."""
        return ["calibration"] if any(scaling.temperature for scaling in self.scalings.values()) else []


def calibrate(job, known):
    """Fit a temperature for each task on the validation images, and fold those that help into the model.

    The model of a job that goes on after it was killed comes from its checkpoint, without any temperature, so none is
    ever applied twice.

    Args:
        job: The `Job`, its model trained.
        known: `Chain` of the training.

    Returns:
        `(job, Calibration)`: the job has the calibrated model, which may be the same one, changed in place.
    """
    from tlkit.models.temperature import fold_temperatures

    tasks, indices = job.data.tasks, job.data.indices("val")
    if job.recipe.evaluation.calibration == "none" or all(task.kind == "regression" for task in tasks.values()):
        return job, Calibration()
    probabilities = predict_split(job, make_chain(job, known), "val", {"none": find_views("none")})["none"]
    scalings = {}
    for name, task in tasks.items():
        scalings[name] = choose_temperature(job.data.labels[name][indices], probabilities[name], task)
        if task.kind != "regression":
            job.listener.note(scalings[name].describe(name))
    temperatures = {name: scaling.temperature for name, scaling in scalings.items() if scaling.kept}
    if not temperatures:
        return job, Calibration(scalings, probabilities)
    return replace(job, model=fold_temperatures(job.model, tasks, temperatures)), Calibration(scalings)


def make_chain(job, known):
    """Return the `Chain` of a job's model as it is now; `known` is that of the training, parts of which may serve."""
    from tlkit.models.chain import Chain

    rows = make_splits(job.recipe).rows("frozen", len(job.recipe.stages))
    return Chain(job.model, job.ends, job.data.tasks, rows, known, job.digests)


def predict_split(job, chain, split, sets):
    """Predict the images of a split.

    Args:
        job: The `Job`, its model trained.
        chain: As from `make_chain`.
        split: `"test"` or `"val"`.
        sets: Dict of name to test-time views, as for `tlkit.evaluation.infer.predict_sets`.

    Returns:
        Dict of that name to dict of task name to float32 `(images, classes)`, or `(images, 1)` numbers for regression.
    """
    data, views, indices = job.data, job.views(), job.data.indices(split)
    kept = kept_evaluation(job, chain, views, indices)
    return predict_sets(chain, views, indices, data.tasks, sets, **kept, listener=job.listener, what=split)


def describe_calibration(calibration, predicted, tasks):
    """Return the entry `calibration` of `metrics.json`.

    Args:
        calibration: `Calibration`.
        predicted: Dict of split to `(labels, probabilities)`, both dicts of task name to array.
        tasks: Dict of task name to `Task`.
    """
    described = {}
    for name, scaling in calibration.scalings.items():
        fitted = scaling.temperature is not None
        entry = {"method": "temperature" if fitted else "none", "temperature": scaling.temperature}
        entry |= {"kept": scaling.kept, "n": scaling.n}
        if scaling.reason:
            entry["reason"] = scaling.reason
        if fitted:
            entry["cross_fitted"] = {
                "before": scaling.before,
                "after": scaling.cross_fitted,
                "standard_error": scaling.standard_error,
            }
        if tasks[name].kind != "regression":
            entry |= {
                split: before_and_after(labels[name], probabilities[name], scaling, tasks[name])
                for split, (labels, probabilities) in predicted.items()
            }
        described[name] = entry
    return {"fitted_on": "val", "tasks": described}


def describe_sets(alpha, predicted, tasks, listener):
    """Fit conformal sets on the validation images and check them on test; return the entry `conformal`.

    Args:
        alpha: How often a set may miss the true class.
        predicted, tasks: As for `describe_calibration`.
        listener: `Listener`, told of each task in one line.
    """
    described = {}
    for name, task in tasks.items():
        if task.kind != "single_label":
            continue
        labels, probabilities = (by_task[name] for by_task in predicted["val"])
        threshold, fitted = fit_threshold(labels, probabilities, alpha), int(labelled(labels).sum())
        labels, probabilities = (by_task[name] for by_task in predicted.get("test", ({name: []}, {name: []})))
        entry = coverage_figures(labels, probabilities, alpha, threshold)
        described[name] = entry | {"n_fitted": fitted}
        listener.note(_sets_in_words(name, described[name]))
    return described


def _sets_in_words(name, entry):
    what = "conformal sets" if name == "label" else f"conformal sets of {name}"
    begin = f"{what}: {1 - entry['alpha']:.3g} coverage, from probability {entry['threshold']:.3g} on"
    begin += f" ({entry['n_fitted']} validation images, which chose the epoch, too: approximate)"
    if entry["coverage"] is None:
        return f"{begin}; no test images to check it on"
    low, high = entry["coverage_interval"]
    return (
        f"{begin}; on {entry['n']} test images {entry['coverage']:.3f}, 95 % interval {low:.3f} to {high:.3f}, "
        f"{entry['mean_size']:.2f} classes a set"
    )


def refuse_idle_sets(recipe, data):
    """Refuse conformal sets that can't be had.

    Raises:
        RecipeError: If there is no single-label task, or one has too few validation images for the error asked for.
    """
    alpha, val = recipe.evaluation.conformal, data.indices("val")
    if not alpha:
        return
    names = [name for name, task in data.tasks.items() if task.kind == "single_label"]
    if not names:
        raise RecipeError("`evaluation.conformal` needs a task of kind single_label, whose classes sets are made of.")
    for name in names:
        count, needed = int(labelled(data.labels[name][val]).sum()), fewest_images(alpha)
        if count < needed:
            least = math.ceil(1000 / (count + 1)) / 1000  # rounded up, so that it will do
            larger = f"Choose a larger one, at least {least:g}, or 0 for none." if count else "Choose 0 for none."
            raise RecipeError(
                f"`evaluation.conformal`: {alpha:g} takes at least {needed} validation images with a label of "
                f"{name}. Received: {count}. {larger}"
            )
