"""One run from its recipe to its metrics: the order in which a run folder comes to be."""

import contextlib
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api.budgeting import write_outcome
from tlkit.api.caching import choose_cache
from tlkit.api.calibrating import refuse_idle_sets
from tlkit.api.deployable import Deployable, describe_inputs
from tlkit.api.memory import choose_splits
from tlkit.api.parts import class_counts, make_training, refuse_idle, refuse_no_training
from tlkit.api.precision import choose_precision
from tlkit.api.recording import evaluate_in_parts, record_end, record_splits
from tlkit.api.report import report_job
from tlkit.api.resuming import (
    DATA,
    RECIPE,
    changed_versions,
    deciding,
    record_changes,
    record_data,
    recorded_changes,
    take_up,
)
from tlkit.api.scoring import primary_key
from tlkit.api.words import describe_monitor
from tlkit.catalog import BUILDABLE
from tlkit.data.index import Data
from tlkit.delivery.predict import Run
from tlkit.errors import LostImageError, RecipeError, Stopped, Terminated, WriteError
from tlkit.lock import FILE as LOCK_FILE
from tlkit.lock import Lock
from tlkit.progress import Listener
from tlkit.recipe_keys import Recipe
from tlkit.training import rules
from tlkit.training.schedule import describe_stage


@dataclass(frozen=True)
class Job:
    """What it takes to make one run.

    Attributes:
        recipe: The `Recipe`; `resolve` makes its automatic choices.
        data: The images with their splits.
        ends: Names of the model's block ends.
        make_model: Function from the recipe, the tasks and what builds the backbone (None for `build_backbone`) to a
            freshly built `keras.Model`.
        listener: Hears what the run does.
        path: The run folder, once `open` has made it.
        model: The model as it was built, once `open` has, for a run that isn't complete.
        plan, store: What is kept of the frozen layers' features, and where; once `open` has chosen.
        cache_size: Bytes that the store on disk may take; None for its default.
        memory: The `MemoryStore` that runs of one process share; None for the run's own, where it needs one.
        digests: What the runs of one process share of what they have found out about the model's frozen layers; see
            `tlkit.models.chain.Chain`.
        pool: int64 array of the images that runs with the same store share, as folds do; None for the run's own.
        resume_path: What a user gives to `--resume`: the run's folder, or that of the run or search it is part of.
        command: Which command that is.
        budget: `tlkit.api.budgeting.Planned`, for a run whose time is limited.
        allowed: Those of `tlkit.run.CHANGES` that may have changed where a run is taken up again.
        changes: What has, see `tlkit.api.resuming.TakenUp`.
        patience: Seconds for which another process is waited for that works on the run and may be about to end.
        lock: The `Lock` on the run folder, once `open` has it; `close` lets it go.
    """

    recipe: Recipe
    data: Data
    ends: tuple[str, ...]
    make_model: Callable
    listener: Listener
    path: Path | None = None
    model: object = None
    plan: object = None
    store: object = None
    cache_size: int | None = None
    memory: object = None
    digests: dict = field(default_factory=dict)
    pool: object = None
    resume_path: Path | None = None
    command: str = "finetune"
    budget: object = None
    allowed: frozenset = frozenset()
    changes: dict = field(default_factory=dict)
    patience: float = 0.0
    lock: object = None

    def resolve(self):
        """Return the job with every automatic choice made, so that its recipe repeats it wherever it is read.

        Raises:
            RecipeError: If a stage unfreezes more blocks than there are.
        """
        kinds = [task.kind for task in self.data.tasks.values()]
        recipe = rules.resolve_views(self.recipe, kinds).model_copy(deep=True)
        recipe.tasks = {name: task.kind for name, task in self.data.tasks.items()}
        if recipe.data.split_seed == "auto":
            recipe.data.split_seed = recipe.seed
        if recipe.data.view_seed == "auto":
            recipe.data.view_seed = recipe.seed
        if recipe.data.image_size == "auto":
            recipe.data.image_size = BUILDABLE[recipe.backbone.name].image_size
        num_images = len(self.data.indices("train"))
        recipe.data.batch_size = min(recipe.data.batch_size, num_images)
        recipe.tasks = {name: task.kind for name, task in self.data.tasks.items()}
        if isinstance(recipe.stages, str):
            size, probed = recipe.data.batch_size, rules.is_probed(recipe.head)
            recipe.stages = rules.choose_stages(recipe.stages, num_images, len(self.ends), size, probed)
        recipe.stages = [rules.resolve_stage(stage) for stage in recipe.stages]
        evaluated = sum(len(self.data.indices(split)) for split in ("test", "val"))
        recipe.evaluation.tta = rules.choose_tta(recipe.evaluation.tta, evaluated)
        refuse_idle(recipe, self.data)
        refuse_idle_sets(recipe, self.data)
        recipe.loss.imbalance, line = rules.choose_imbalance(recipe.loss.imbalance, class_counts(self.data))
        if line and self.resume_path is None:  # folds have it said once
            self.listener.note(line)
            self._note_undrawn(recipe)
        for number, stage in enumerate(recipe.stages):
            if stage.unfreeze != "all" and stage.unfreeze > len(self.ends):
                raise RecipeError(
                    f"`stages.{number}.unfreeze`: expected at most {len(self.ends)}, the number of blocks of "
                    f"{recipe.backbone.name}. Received: {stage.unfreeze}"
                )
        if recipe.backbone.weights not in {"imagenet", "none"}:
            recipe.backbone.weights = str(Path(recipe.backbone.weights).expanduser().absolute())
        return replace(self, recipe=recipe)

    def _note_undrawn(self, recipe):
        name, _ = rules.most_imbalanced(class_counts(self.data))
        missing = sum(self.data.labels[name][self.data.indices("train")] < 0)
        if recipe.loss.imbalance == "balanced_sampling" and missing:
            self.listener.note(f"balanced sampling leaves out {missing} training images without a label of {name}")

    def open(self, out, resume):
        """Return the job with its model and its run folder: made with what is known before training, or checked.

        The model comes first: what is wrong with weights or head shows before there is a folder.

        Args:
            out: The folder, or None for a new one under `runs/`.
            resume: Whether the folder may hold this very run already.

        Raises:
            RunError: If the folder is in use for something else, can't be written, or its recipe or data differ.
        """
        exists = bool(resume and out and (Path(out) / run_folder.RECIPE).is_file())
        if not exists:
            path = run_folder.new_run_path(self.recipe.backbone.name, Path(self.data.source).stem, out)
            return replace(self, path=path, changes={}, model=None, lock=None)._prepared(exists)
        path, lock = Path(out), None
        run_folder.refuse_links(path)
        if not run_folder.is_complete(path):
            lock = Lock(path / LOCK_FILE, "this run", self.patience)  # first: its holder may have changed the recipe
        job = replace(self, path=path, model=None, lock=lock)
        try:
            with run_folder.reading(path):
                recipe, data, changes = take_up(path, self.recipe, self.data, self.allowed)
            job = replace(job, recipe=recipe, data=data, changes=changes)
            if not run_folder.is_complete(path):
                return job._prepared(exists)
        except BaseException:
            job.close()
            raise
        job.close()  # nothing to do: it was complete, or whoever had the lock has just ended it
        return job

    def _prepared(self, exists):
        """Return the job with its model, its folder made or found to be of the same engine, and its choices made."""
        job = replace(self, resume_path=self.resume_path or self.path)
        model = self.make_model(self.recipe, self.data.tasks)
        changes, lock = dict(self.changes), self.lock
        if exists and (versions := changed_versions(self.path, _environment(self), self.allowed)):
            changes["versions"] = versions
        refuse_no_training(self, self.recipe, model)
        recipe = choose_precision(self, self.recipe, model)
        recipe, beside = choose_splits(self, recipe, model)
        recipe, plan, store = choose_cache(self, recipe, model, beside)
        if exists:
            for leftover in self.path.rglob(".*.tmp*"):  # of a write that was killed
                run_folder.remove(leftover)
        else:
            _make_folder(self.path, recipe, self.data, self.budget)
            with job.saying_how_to_go_on():
                lock = Lock(self.path / LOCK_FILE, "this run")
        opened = {"model": model, "recipe": recipe, "plan": plan, "store": store, "changes": changes, "lock": lock}
        return replace(job, **opened)

    def close(self):
        """Let other processes have the run."""
        if self.lock:
            self.lock.release()

    def run(self, estimate=None):
        """Train, evaluate and write all that a run folder holds, from wherever its checkpoint says; return the `Run`.

        Args:
            estimate: The entry `cv` for `metrics.json`, if there is one; it becomes the headline.

        Raises:
            Stopped: If a signal asked for it; all that was done is saved.
        """
        if self.model is None:
            self.listener.note(f"{self.path} is complete; nothing to resume")
        else:
            self.listener.note(f"run folder: {self.path}")
            for number, stage in enumerate(self.recipe.stages):
                self.listener.note(f"stage {number}: {describe_stage(stage)}")
            if len(self.data.tasks) > 1:
                self.listener.note(describe_monitor(self.recipe))
            try:
                with self.saying_how_to_go_on():
                    _execute(self, estimate)
            finally:
                self.close()
        run = Run(self.path)
        run.data = self.data
        return run

    def run_trial(self):
        """Train, and write what the folder of a search's trial holds: no model, no predictions, no report.

        The checkpoint stays, for a trial that is over and not yet known to be; then this returns at once. The model is
        left with what was chosen.

        Returns:
            The row of the epoch, or of the probe, that validated best: `stage`, `epoch`, `val_loss`, `val_accuracy`.
        """
        with self.saying_how_to_go_on():
            record_environment(self)
            state, _ = _train(self)
            row = _choice(state.best)
            run_folder.write_json(self.path / run_folder.METRICS, {"primary": "val.loss", "val": row})
        return row

    @contextlib.contextmanager
    def saying_how_to_go_on(self):
        """Return a context in which whatever ends a run that can be resumed says how.

        Raises:
            Stopped, WriteError, LostImageError: For what comes through.
        """
        try:
            yield
        except (KeyboardInterrupt, Terminated) as interruption:
            raise Stopped.after(interruption, self.resume_command) from None
        except WriteError as error:
            raise error.resumed_by(self.resume_command) from None
        except LostImageError as error:
            raise LostImageError(f"{error} What is done is kept; to go on: {self.resume_command}") from None

    @property
    def resume_command(self):
        """What a user types to go on with the run."""
        more = self.recipe.head.as_option + ("" if self.cache_size is None else f" --cache-size {self.cache_size}")
        return f"tlkit {self.command} --resume --out {shlex.quote(str(self.resume_path))}{more}"

    def views(self):
        """Return the `tlkit.data.pipeline.Views` in which the recipe shows the images."""
        from tlkit.data.pipeline import Views

        settings, epochs = self.recipe.data, [stage for stage in self.recipe.stages for _ in range(stage.epochs)]
        return Views(
            self.data,
            image_size=settings.image_size,
            fit=settings.fit,
            augment=settings.augment,
            count=settings.views or None,
            fresh=[number for number, stage in enumerate(epochs) if stage.unfreeze in {"all", len(self.ends)}],
            seed=self.recipe.data.view_seed,
        )


def _make_folder(path, recipe, data, budget):
    with run_folder.made_whole(path) as begun:
        if budget:
            run_folder.write_json(begun / run_folder.PLAN, budget.plan)
        record_data(begun, data, budget.audit if budget else {})
        run_folder.write_text(begun / run_folder.RECIPE, recipe.to_toml())


def _execute(job, estimate):
    started = time.monotonic()
    record_environment(job)
    state, training = _train(job)
    evaluation_started = time.monotonic()
    job, metrics = evaluate_in_parts(job, state, training)
    run_folder.write_json(job.path / run_folder.INPUTS, describe_inputs(job, metrics.get("conformal", {})))
    if estimate:
        metrics |= {"primary": primary_key("cv", job.data.tasks), "cv": estimate}
    now = time.monotonic()
    timing = {
        "total_seconds": round(state.probe_seconds + sum(state.stage_seconds) + now - evaluation_started, 3),
        "this_process_seconds": round(now - started, 3),
        "feature_pass_seconds": round(state.pass_seconds, 3),
        "probe_seconds": round(state.probe_seconds, 3),
        "evaluation_seconds": round(now - evaluation_started, 3),
        "stages": [{"stage": number, "seconds": round(s, 3)} for number, s in enumerate(state.stage_seconds)],
    }
    run_folder.write_json(job.path / run_folder.TIMING, timing)
    run_folder.write_json(job.path / run_folder.METRICS, metrics)
    report_job(job)
    write_outcome(job, state)
    run_folder.remove_checkpoint(job.path)


def record_environment(job):
    """Make the engine repeatable, and write what it is."""
    from tlkit.training.repeatable import make_repeatable

    make_repeatable(job.recipe.seed)
    if not (job.path / run_folder.ENVIRONMENT).exists():
        run_folder.write_json(job.path / run_folder.ENVIRONMENT, _environment(job))


def _environment(job):
    from tlkit.training.repeatable import describe_device

    device, threads = describe_device()
    return run_folder.describe_environment(job.recipe.seed, threads) | {"device": device}


def _train(job):
    from tlkit.training.checkpoint import Checkpoint, TrainingState
    from tlkit.training.clock import Deadline
    from tlkit.training.interrupt import deferred_signals
    from tlkit.training.stage import weights_hash

    recipe, data = job.recipe, job.data
    training = make_training(job, lambda entries: record_splits(job, entries))
    identity = {
        RECIPE: deciding(recipe).to_toml(),
        DATA: data.fingerprint,
        "initial weights": weights_hash(job.model),
    }
    seconds = recipe.training.checkpoint_seconds
    until = job.budget.train_until if job.budget else math.inf
    deadline = Deadline(until, lambda stages: record_end(job, stages))
    whole = job.resume_path == job.path  # no fold, no trial
    allowed = job.allowed | recorded_changes(job.path)
    checkpoint = Checkpoint(job.path / run_folder.CHECKPOINT, identity, seconds, job.resume_command, allowed)
    recorder = _Recorder(job.path, job.listener.note)
    with deferred_signals() as stop, checkpoint:
        state = checkpoint.load(job.listener.note) or TrainingState()
        _heed_changes(job, training, state, checkpoint.changed)
        job.listener.training_resumed(state.probe, state.history)
        training.run(
            state,
            checkpoint=checkpoint,
            listener=job.listener,
            stop=stop,
            on_epoch=recorder,
            on_candidate=Deployable(job, training) if whole else None,
            deadline=deadline,
        )
    recorder.write_history(state)
    run_folder.write_json(
        job.path / run_folder.SELECTION, {"shipped": _choice(state.best), "contests": state.selection}
    )
    return state, training


def _heed_changes(job, training, state, of_checkpoint):
    """Refuse a state that doesn't fit what has changed in a run since it was saved; else record the changes."""
    if not (job.changes or of_checkpoint):
        return
    training.refuse_another(state)
    if of_checkpoint:
        state.begin_epoch_anew()  # its batches are others now
    at = {"stage": state.stage, "epoch": state.epoch, "step": state.step}
    record_changes(job.path, _environment(job), job.changes, at)
    if DATA in job.changes:
        record_data(job.path, job.data)
    if RECIPE in job.changes:
        run_folder.write_text(job.path / run_folder.RECIPE, job.recipe.to_toml())
    for what in job.changes:
        job.listener.note(f"the run's {what} changed, as allowed: it doesn't end with the bits that it would have had")


def _choice(row):
    """Return which candidate a row of figures belongs to, and its figures."""
    return {key: row[key] for key in ("stage", "epoch", "val_loss", "val_accuracy")}


class _Recorder:
    """Writes `history.csv` and the TensorBoard log after every epoch."""

    def __init__(self, path, note):
        from tlkit.training.tensorboard import ScalarLog

        self._path = path / run_folder.HISTORY
        self._log = ScalarLog(path / run_folder.TENSORBOARD, note)

    def __call__(self, state):
        self.write_history(state)
        self._log.write(state.history[-1], step=len(state.history) - 1)

    def write_history(self, state):
        run_folder.write_csv(self._path, state.history.columns, (row.values() for row in state.history))
