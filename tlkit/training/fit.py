"""The training loop: stage after stage, batch after batch, from whatever state it is given."""

import hashlib
import itertools
import math
import time

import keras
import numpy as np

from tlkit.errors import Stopped, TlkitError
from tlkit.models.assemble import cut, freeze
from tlkit.models.chain import Chain
from tlkit.training.losses import loss_and_correct, task_losses

HISTORY_COLUMNS = ("stage", "epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "rmsprop": keras.optimizers.RMSprop,
}


class StageTrainer:
    """One stage on a model: the suffix trains on what comes out of the frozen prefix.

    Args:
        model: What `tlkit.models.assemble.assemble` returns; its layers are trained in place.
        stage: The `Stage`.
        ends: Names of the model's block ends, from the image to the head.
        tasks: Dict of task name to `Task`.
        steps_per_epoch: Batches in an epoch.
        batch_norm: Policy for the backbone's BatchNorm; `"frozen"` keeps it in inference mode.
    """

    def __init__(self, model, stage, *, ends, tasks, steps_per_epoch, batch_norm="frozen"):
        depth = unfrozen_blocks(stage, ends)
        freeze(model, ends, depth, batch_norm=batch_norm)
        _, self.suffix = cut(model, ends, depth, tasks)
        self.rate = _learning_rate(stage, stage.epochs * steps_per_epoch)
        self.optimizer = OPTIMIZERS[stage.optimizer](self.rate)
        self.suffix.compile(
            self.optimizer, loss=task_losses(tasks), metrics=dict.fromkeys(tasks, "accuracy"), jit_compile=False
        )
        self.optimizer.build(self.suffix.trainable_variables)

    def train_step(self, features, labels):
        """Train on one batch; return its loss, penalties included, and its accuracy, mean over the tasks."""
        self.suffix.reset_metrics()  # so that what comes back is of this batch alone, and no metric is state
        logs = self.suffix.train_on_batch(features, labels, return_dict=True)
        accuracies = [float(value) for name, value in logs.items() if name.endswith("accuracy")]
        return float(logs["loss"]), sum(accuracies) / len(accuracies)

    def evaluate(self, feature_batches, stop=None):
        """Return mean cross-entropy and accuracy over all images of `feature_batches`; None if told to stop."""
        loss_sum = correct = seen = 0
        for features, labels in feature_batches:
            if stop and stop.signal:
                return None
            logits = self.suffix.predict_on_batch(features)
            batch_loss, batch_correct = loss_and_correct(logits, labels)
            loss_sum, correct, seen = loss_sum + batch_loss, correct + batch_correct, seen + len(features)
        return loss_sum / seen, correct / seen

    def learning_rate_at(self, step):
        """Return the learning rate of the stage's step `step`, from 0."""
        return float(self.rate(step)) if callable(self.rate) else self.rate


class Training:
    """A model in training: owns the state, and knows how to put it into the model and take it out.

    Args:
        model, ends, tasks, batch_norm: As for `StageTrainer`.
        stages: List of `Stage`.
        features: `tlkit.training.features.Features`, or what has its methods: the batches.
        monitor: `"loss"` or `"accuracy"`: the validation figure that chooses the best epoch.
        patience: Epochs without a better one that end a stage; 0 for never.
    """

    def __init__(
        self,
        model,
        stages,
        *,
        ends,
        tasks,
        features,
        batch_norm="frozen",
        monitor="loss",
        patience=0,
    ):
        self.model, self.stages, self.ends, self.tasks = model, stages, ends, tasks
        self.features, self.steps_per_epoch, self.batch_norm = features, features.steps_per_epoch, batch_norm
        self.monitor, self.patience = monitor, patience
        self.chain = None
        self._variables_by_depth = {}

    def run(self, state, *, checkpoint, listener, stop, on_epoch):
        """Train from `state` to the end and leave the best epoch's weights in the model.

        Args:
            state: `TrainingState`: fresh, or as loaded from a checkpoint. Changed in place.
            checkpoint: `Checkpoint` that is written when due and at the end.
            listener: `Listener` that is told of every step and epoch.
            stop: `StopRequest`; once its signal is set, the state is saved and `Stopped` is raised.
            on_epoch: Called with the state after every epoch.
        """
        while state.stage < len(self.stages):
            clock = _StageClock(state)
            trainer = self._start_stage(state)
            total = self.stages[state.stage].epochs * self.steps_per_epoch
            done = state.epoch * self.steps_per_epoch + state.step
            listener.stage_started(state.stage, self.stages, total, done)
            for epoch_is_over in self._steps(trainer, state, listener, stop):
                clock.tick()
                if epoch_is_over:
                    on_epoch(state)
                if stop.signal or checkpoint.is_due():
                    self._take(state, trainer)
                    checkpoint.save(state)
                if stop.signal:
                    raise Stopped(stop.signal, checkpoint.resume_command)
            listener.stage_finished()
            self._finish_stage(state)
        _assign(self._tracked(len(self.stages) - 1), state.best_variables)
        freeze(self.model, self.ends, unfrozen_blocks(self.stages[-1], self.ends), batch_norm=self.batch_norm)
        state.variables, state.optimizer = [], []
        checkpoint.save(state)
        if stop.signal:
            raise Stopped(stop.signal, checkpoint.resume_command)

    def _start_stage(self, state):
        """Build the stage's trainer and put the state into it: a resumed one, or the best epoch so far."""
        trainer = StageTrainer(
            self.model,
            self.stages[state.stage],
            ends=self.ends,
            tasks=self.tasks,
            steps_per_epoch=self.steps_per_epoch,
            batch_norm=self.batch_norm,
        )
        if state.variables:
            _assign(self._tracked(state.stage), state.variables)
            _assign(trainer.optimizer.variables, state.optimizer)
        self.chain = Chain(self.model, self.ends, self.tasks, self.features.batch_size, known=self.chain)
        cuts = [self.chain.position(unfrozen_blocks(stage, self.ends)) for stage in self.stages]
        firsts = np.cumsum([0, *(stage.epochs for stage in self.stages)]).tolist()
        epochs = [range(*pair) for pair in itertools.pairwise(firsts)]
        later = list(zip(cuts, epochs, strict=True))[state.stage + 1 :]
        self.features.start_stage(self.chain, cuts[state.stage], later)
        return trainer

    def _steps(self, trainer, state, listener, stop):
        """Train until the stage ends; yield True after an epoch's validation, False after all else that takes time."""
        stage = self.stages[state.stage]
        earlier_epochs = sum(earlier.epochs for earlier in self.stages[: state.stage])
        first_step = (earlier_epochs + state.epoch) * self.steps_per_epoch + state.step
        batches = self.features.training(first_step)
        while state.epoch < stage.epochs and not self._is_stale(state):
            for seconds in self.features.prepare(earlier_epochs + state.epoch):
                state.pass_seconds += seconds
                yield False
            while state.step < self.steps_per_epoch:
                features, labels = next(batches)
                loss, accuracy = trainer.train_step(features, labels)
                _refuse_nan("loss", loss, state, stage)
                state.loss_sum += loss * len(features)
                state.correct += accuracy * len(features)
                state.seen += len(features)
                state.step += 1
                listener.step_done(loss)
                yield False
            yield self._finish_epoch(trainer, state, listener, stop)

    def _finish_epoch(self, trainer, state, listener, stop):
        """Validate, and add the epoch to the history; return False, with nothing changed, if a stop was asked for."""
        figures = trainer.evaluate(self.features.validation(), stop)
        if figures is None:
            return False
        val_loss, val_accuracy = figures
        _refuse_nan("validation loss", val_loss, state, self.stages[state.stage])
        steps_done = (state.epoch + 1) * self.steps_per_epoch
        row = {
            "stage": state.stage,
            "epoch": state.epoch,
            "step": steps_done,
            "loss": state.loss_sum / state.seen,
            "accuracy": state.correct / state.seen,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": trainer.learning_rate_at(steps_done - 1),
        }
        is_best = state.best is None or self._score(row) > self._score(state.best)
        if is_best:
            state.best, state.stale_epochs = row, 0
            state.best_variables = _values(self._tracked(state.stage))
        else:
            state.stale_epochs += 1
        state.history.append(row)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum, state.correct, state.seen = 0.0, 0.0, 0
        listener.epoch_done(row, is_best)
        return True

    def _finish_stage(self, state):
        """Go on from the best epoch so far, with a fresh optimizer."""
        _assign(self._tracked(state.stage), state.best_variables)
        state.stage, state.epoch, state.stale_epochs = state.stage + 1, 0, 0
        if state.stage < len(self.stages):
            state.best_variables = _values(self._tracked(state.stage))
        state.variables, state.optimizer = [], []

    def _take(self, state, trainer):
        state.variables = _values(self._tracked(state.stage))
        state.optimizer = _values(trainer.optimizer.variables)

    def _tracked(self, number):
        """Return the variables that stages 0 to `number` may have changed: those above the deepest cut among them."""
        depth = max(unfrozen_blocks(stage, self.ends) for stage in self.stages[: number + 1])
        if depth not in self._variables_by_depth:
            _, suffix = cut(self.model, self.ends, depth, self.tasks)
            self._variables_by_depth[depth] = suffix.variables
        return self._variables_by_depth[depth]

    def _score(self, row):
        """Return what is to be highest: the monitored figure, then the other one to break ties."""
        by_loss, by_accuracy = -row["val_loss"], row["val_accuracy"]
        return (by_loss, by_accuracy) if self.monitor == "loss" else (by_accuracy, by_loss)

    def _is_stale(self, state):
        return bool(self.patience) and state.stale_epochs >= self.patience


class _StageClock:
    """Adds to the state how long its stage has taken, over however many processes."""

    def __init__(self, state):
        self._state, self._last = state, time.monotonic()
        while len(state.stage_seconds) <= state.stage:
            state.stage_seconds.append(0.0)

    def tick(self):
        now = time.monotonic()
        self._state.stage_seconds[-1] += now - self._last
        self._last = now


def weights_hash(model):
    """Return the sha256 of all the model's variables, in order: which model a training started from."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()


def unfrozen_blocks(stage, ends):
    """Return how many blocks the stage unfreezes."""
    return len(ends) if stage.unfreeze == "all" else min(stage.unfreeze, len(ends))


def _learning_rate(stage, total_steps):
    if stage.schedule == "constant":
        return stage.learning_rate
    return keras.optimizers.schedules.CosineDecay(stage.learning_rate, decay_steps=total_steps)


def _values(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _refuse_nan(what, loss, state, stage):
    if not math.isfinite(loss):
        raise TlkitError(
            f"stage {state.stage}, epoch {state.epoch}, step {state.step}: the {what} is {loss}. Try a new run with "
            f"--set stages.{state.stage}.learning_rate={stage.learning_rate / 10:g}"
        )
