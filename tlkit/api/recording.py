"""What a run finds out while it runs, and writes into its recipe, so that the recipe repeats it."""

from dataclasses import replace

from tlkit import run as run_folder
from tlkit.api.calibrating import calibrate
from tlkit.api.scoring import score_splits
from tlkit.errors import OutOfMemoryError
from tlkit.recipe import read_recipe


def record_end(job, stages):
    """Write into a run's recipe where its training ends, before it does."""
    last = next(number for number, stage in enumerate(stages) if stage.trained_epochs < stage.epochs)
    done, planned = stages[last].trained_epochs, stages[last].epochs
    job.listener.note(f"time for training is up: stage {last} ends after {done} of {planned} epochs")
    _record(job, lambda recipe: recipe.model_copy(update={"stages": stages}))


def record_splits(job, entries):
    """Write into a run's recipe in how many parts batches are computed, before they are."""
    _record(job, lambda recipe: _with_splits(recipe, entries))


def evaluate_in_parts(job, state, training):
    """Calibrate and write the model, and predict the splits: in ever smaller parts where memory runs out.

    Args:
        job: The `Job`, its training over.
        state: Its `TrainingState`.
        training: Its `Training`.

    Returns:
        `(job, metrics)`: the job with the model as it is written, and what goes into `metrics.json`.
    """
    while True:
        tried = replace(job, recipe=_with_splits(job.recipe, training.splits.entries))
        try:
            tried, calibration = calibrate(tried, training.chain)
            with run_folder.atomic_path(job.path / run_folder.MODEL) as temporary:
                tried.model.save(temporary)
            return tried, score_splits(tried, training.chain, calibration)
        except OutOfMemoryError as error:
            full = error.bare()
        job.listener.note(training.splits.halve(full, len(job.recipe.stages), 0))
        training.hold_chosen(state)  # without a temperature


def _record(job, change):
    path = job.path / run_folder.RECIPE
    run_folder.write_text(path, change(read_recipe(path, recorded=True)).to_toml())


def _with_splits(recipe, entries):
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"splits": list(entries)})})
