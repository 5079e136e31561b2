"""The training loop: stage after stage, batch after batch, from whatever state it is given."""

import contextlib
import itertools
import math
import time

import numpy as np

from tlkit.errors import Stopped, TlkitError
from tlkit.models.assemble import cut, freeze, variables_by_block
from tlkit.models.chain import Chain
from tlkit.models.resized import resized
from tlkit.recipe_keys import Stage
from tlkit.training.average import BestEpochs
from tlkit.training.checkpoint import TrainingState, refuse_unfit, restore
from tlkit.training.clock import Deadline, StageClock
from tlkit.training.floor import fit_floor
from tlkit.training.interrupt import StopRequest
from tlkit.training.losses import Anchor
from tlkit.training.lr_find import range_test
from tlkit.training.rules import beats, resolve_stage
from tlkit.training.stage import Craft, StageTrainer, assign, unfrozen_blocks, values_of

HISTORY_COLUMNS = ("stage", "epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
PROBE = {"stage": -1, "epoch": 0}  # where the probe stands among the candidates


class Training:
    """A model in training: owns the state, and knows how to put it into the model and take it out.

    Args:
        model: What `tlkit.models.assemble.assemble` returns; left with the weights that were chosen.
        stages: List of `Stage`.
        ends: Names of the model's block ends, from the image to the head.
        tasks: Dict of task name to `Task`.
        features: `tlkit.training.features.Features`, or what has its methods: the batches.
        craft: `Craft`.
        probe_views: Training views of which a linear probe is fitted before the first stage; none for no probe.
        auxiliaries: As for `tlkit.training.stage.StageTrainer`.
    """

    def __init__(self, model, stages, *, ends, tasks, features, craft=None, probe_views=(), auxiliaries=None):
        self.model, self.ends, self.tasks = model, ends, tasks
        self.stages = [resolve_stage(stage) for stage in stages]
        self.features, self.steps_per_epoch = features, features.steps_per_epoch
        self.craft, self.probe_views, self._auxiliaries = craft or Craft(), probe_views, auxiliaries
        self.chain = None
        self._variables, self._resized, self._pretrained, self._beside = {}, {}, None, {}
        for number in range(len(self.stages)):
            self._model_of(number)  # refuses sizes that the network can't have
        if self.craft.l2_sp:
            self._pretrained = [values_of(block) for block in variables_by_block(model, ends)[1:]]

    def run(self, state, *, checkpoint, listener, stop, on_epoch, on_candidate=None, deadline=None):
        """Train from `state` to the end and leave the chosen weights in the model.

        Args:
            state: `TrainingState`: fresh, or as loaded from a checkpoint. Changed in place.
            checkpoint: `Checkpoint` that is written when due and at the end.
            listener: `Listener` that is told of every step and epoch.
            stop: `StopRequest`; once its signal is set, the state is saved and `Stopped` is raised.
            on_epoch: Called with the state after every epoch.
            on_candidate: Called with the state whenever `holding_best` may hold something better: after the probe, and
                after every epoch.
            deadline: `Deadline`; once it is over, the training ends with what there is, if there is anything.
        """
        deadline, on_candidate = deadline or Deadline(), on_candidate or (lambda state: None)
        if not state.begun:
            self._begin(state, checkpoint, listener, stop)
            on_candidate(state)
        while state.stage < len(self.stages):
            self._heed(deadline, state)
            if not self.stages[state.stage].trained_epochs:
                self._advance(state)
                continue
            clock = StageClock(state)
            trainer = self._start_stage(state)
            total = self.stages[state.stage].epochs * self.steps_per_epoch
            done = state.epoch * self.steps_per_epoch + state.step
            listener.stage_started(state.stage, self.stages, total, done)
            for epoch_is_over in self._steps(trainer, state, listener, stop):
                clock.tick()
                if epoch_is_over:
                    on_epoch(state)
                    on_candidate(state)
                if stop.signal:
                    self._take(state, trainer)
                    checkpoint.save(state)
                    raise Stopped(stop.signal, checkpoint.resume_command)
                if checkpoint.is_due():
                    self._take(state, trainer)
                    checkpoint.begin_saving(state)
                self._heed(deadline, state)
                if state.epoch >= self.stages[state.stage].trained_epochs:
                    break
            listener.stage_finished()
            self._finish_stage(state, trainer, listener)
        restore(self._tracked(len(self.stages) - 1, self.model), state.best_variables)
        depth = unfrozen_blocks(self.stages[-1], self.ends) if self.stages else 0
        freeze(self.model, self.ends, depth, batch_norm=self.craft.norm_policy)
        state.variables, state.optimizer = [], []
        checkpoint.save(state)
        if stop.signal:
            raise Stopped(stop.signal, checkpoint.resume_command)

    def refuse_another(self, state):
        """Refuse a state of other stages or of another model, as a checkpoint may hold after the recipe changed.

        Raises:
            RunError: If it can't be trained on from.
        """
        number = min(state.stage, len(self.stages) - 1)
        tracked = self._tracked(number, self.model)
        if state.best_variables:
            refuse_unfit(tracked, state.best_variables)
        if state.variables:
            trainer = self._trainer(self._model_of(number), self.stages[number], state)
            refuse_unfit([*tracked, *trainer.state_variables], [*state.variables, *state.optimizer])

    def range_test(self, steps, listener):
        """Do the learning-rate range test of the only stage, from where it would begin; the model is trained in place.

        Yields:
            `tlkit.training.lr_find.RangeTest` after every step.
        """
        state = TrainingState()
        self._begin(state, None, listener, StopRequest())
        trainer = self._start_stage(state)
        yield from range_test(trainer, self.features.training(0), steps)

    def _begin(self, state, checkpoint, listener, stop):
        """Fit the probe, put it into the head, and take it for the best so far."""
        started = time.monotonic()
        if self.probe_views:
            self.chain = Chain(self.model, self.ends, self.tasks, self.features.batch_size)
            self.features.start_stage(self.chain, self.chain.position(0), self._cuts_from(0))
            for seconds in self.features.prepare_views(self.probe_views):
                state.pass_seconds += seconds
                if stop.signal:
                    checkpoint.save(state)
                    raise Stopped(stop.signal, checkpoint.resume_command)
            trainer = self._trainer(self.model, Stage(unfreeze=0, epochs=1, learning_rate=1.0), state)
            weights = self.craft.class_weights
            probes = fit_floor(trainer.suffix, self.tasks, self.features, self.probe_views, weights)
            if probes is None:
                listener.note("the head is not linear: it begins at random, and there is no probe to beat")
            else:
                figures = trainer.evaluate(self.features.validation())
                state.best = state.probe = PROBE | {"val_loss": figures.loss, "val_accuracy": figures.score}
                listener.probe_fitted(state.probe)
                state.best_figures = [self._figures(figures)]
                state.best_variables = values_of(self._tracked(0, self.model))
                strengths = ", ".join(f"{probe.strength:g}" for probe in probes.values())
                listener.note(
                    f"linear probe of the frozen features: val loss {figures.loss:.3f}  val accuracy "
                    f"{figures.score:.3f}  (penalty {strengths}); the head begins there, and training has to beat it"
                )
        state.begun = True
        state.probe_seconds = time.monotonic() - started

    def _trainer(self, model, stage, state):
        anchor = None
        if self._pretrained is not None:
            blocks = zip(variables_by_block(model, self.ends)[1:], self._pretrained, strict=True)
            pairs = [pair for block in blocks for pair in zip(*block, strict=True)]
            anchor = Anchor(*zip(*pairs, strict=True), weight=self.craft.l2_sp)
        return StageTrainer(
            model,
            stage,
            ends=self.ends,
            tasks=self.tasks,
            steps_per_epoch=self.steps_per_epoch,
            craft=self.craft,
            anchor=anchor,
            log_variances=state.log_variances,
            validated=self.model,
            auxiliaries=self._auxiliaries_of if self._auxiliaries else None,
        )

    def _auxiliaries_of(self, model):
        """Return the classifiers beside a model, the same ones in every stage: a later one goes on with them."""
        if id(model) not in self._beside:
            self._beside[id(model)] = self._auxiliaries(model)
        return self._beside[id(model)]

    def _start_stage(self, state):
        """Build the stage's trainer and put the state into it: a resumed one, or the best epoch so far."""
        resuming = bool(state.variables)
        if state.best_variables:
            restore(self._tracked(state.stage, self.model), state.best_variables)
        model = self._model_of(state.stage)
        if model is not self.model:
            assign(model.variables, values_of(self.model.variables))
        if resuming:
            restore(self._tracked(state.stage, model), state.variables)
        trainer = self._trainer(model, self.stages[state.stage], state)
        if resuming:
            restore(trainer.state_variables, state.optimizer)
        self.chain = Chain(self.model, self.ends, self.tasks, self.features.batch_size, known=self.chain)
        (position, _), *later = self._cuts_from(state.stage)
        if model is self.model:
            self.features.start_stage(self.chain, position, later)
        else:
            shown = Chain(model, self.ends, self.tasks, self.features.batch_size)
            self.features.start_stage(self.chain, position, later, shown)
        if self.craft.batch_norm == "recalibrate" and trainer.held_norms and not resuming:
            epoch = sum(stage.epochs for stage in self.stages[: state.stage])
            batches = self.features.training(epoch * self.steps_per_epoch, mixing=False)
            trainer.recalibrate(itertools.islice(batches, self.steps_per_epoch))
        return trainer

    def _cuts_from(self, number):
        """Return `(position, epochs)` of each stage from `number` on, the epochs counted over all stages."""
        cuts = [self.chain.position(unfrozen_blocks(stage, self.ends)) for stage in self.stages]
        firsts = np.cumsum([0, *(stage.epochs for stage in self.stages)]).tolist()
        epochs = [range(*pair) for pair in itertools.pairwise(firsts)]
        return list(zip(cuts, epochs, strict=True))[number:]

    def _steps(self, trainer, state, listener, stop):
        """Train until the stage ends; yield True after an epoch's validation, False after all else that takes time."""
        stage = self.stages[state.stage]
        earlier_epochs = sum(earlier.epochs for earlier in self.stages[: state.stage])
        first_step = (earlier_epochs + state.epoch) * self.steps_per_epoch + state.step
        batches = self.features.training(first_step)
        while state.epoch < stage.trained_epochs and not self._is_stale(state):
            for seconds in self.features.prepare(earlier_epochs + state.epoch):
                state.pass_seconds += seconds
                yield False
            while state.step < self.steps_per_epoch:
                batch = next(batches)
                step = state.epoch * self.steps_per_epoch + state.step
                loss, score = trainer.train_step(batch, step, state.drops)
                _refuse_nan("loss", loss, state, stage)
                state.loss_sum += loss * len(batch.features)
                state.score_sum += score * len(batch.features)
                state.seen += len(batch.features)
                state.step += 1
                listener.step_done(loss)
                yield False
            yield self._finish_epoch(trainer, state, listener, stop)

    def _finish_epoch(self, trainer, state, listener, stop):
        """Validate, and add the epoch to the history; return False, with nothing changed, if a stop was asked for."""
        figures = trainer.evaluate(self.features.validation(), stop)
        if figures is None:
            return False
        _refuse_nan("validation loss", figures.loss, state, self.stages[state.stage])
        steps_done = (state.epoch + 1) * self.steps_per_epoch
        row = {
            "stage": state.stage,
            "epoch": state.epoch,
            "step": steps_done,
            "loss": state.loss_sum / state.seen,
            "accuracy": state.score_sum / state.seen,
            "val_loss": figures.loss,
            "val_accuracy": figures.score,
            "learning_rate": trainer.learning_rate_at(steps_done - 1, state.drops),
        }
        if len(self.tasks) > 1:
            for name, (loss, score) in figures.by_task.items():
                row |= {f"val_{name}_loss": loss, f"val_{name}_accuracy": score}
        is_best = self._contend(state, row, figures, trainer)
        self._count_stale(state, is_best)
        state.history.append(row)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum, state.score_sum, state.seen = 0.0, 0.0, 0
        listener.epoch_done(row, is_best)
        return True

    def _contend(self, state, row, figures, trainer):
        """Take an epoch for the stage's best if it is; return whether it is."""
        is_best = state.stage_best is None or self._score(row) > self._score(state.stage_best)
        if not is_best and not self.craft.average_best:
            return False
        with trainer.averaged():
            values = values_of(self._tracked(state.stage, self._model_of(state.stage)))
        if is_best:
            state.stage_best, state.stage_best_variables = row, values
            state.stage_best_figures = [self._figures(figures)]
        if self.craft.average_best:
            BestEpochs(self.craft.average_best, state.kept_scores, state.kept).offer(self._score(row)[0], values)
        return is_best

    def _count_stale(self, state, is_best):
        """Count epochs without a better one; after `decay_epochs` of them a plateau is met."""
        stage = self.stages[state.stage]
        state.stale_epochs = 0 if is_best else state.stale_epochs + 1
        state.stale_since_drop = 0 if is_best else state.stale_since_drop + 1
        if stage.schedule == "plateau" and state.stale_since_drop >= stage.decay_epochs:
            state.drops, state.stale_since_drop = state.drops + 1, 0

    def _finish_stage(self, state, trainer, listener):
        """Let the stage's best contend with the best so far; go on from the winner, with a fresh optimizer."""
        tracked = self._tracked(state.stage, self._model_of(state.stage))
        best_epochs = BestEpochs(self.craft.average_best, state.kept_scores, state.kept)
        if (average := best_epochs.average()) is not None:
            assign(tracked, average)
            trainer.average = None  # these are averages already
            figures = trainer.evaluate(self.features.validation())
            row = state.stage_best | {"val_loss": figures.loss, "val_accuracy": figures.score}
            if self._score(row) > self._score(state.stage_best):
                listener.note(
                    f"stage {state.stage}: the mean of its {len(state.kept_scores)} best epochs is better yet"
                )
                state.stage_best, state.stage_best_variables = row, average
                state.stage_best_figures = [self._figures(figures)]
        best_epochs.forget()
        state.log_variances = trainer.log_variances
        if state.stage_best is not None:
            self._choose(state, listener)
        self._advance(state)

    def _advance(self, state):
        """Put the best so far into the model, and turn to the next stage."""
        restore(self._tracked(state.stage, self.model), state.best_variables)
        state.stage, state.epoch, state.step, state.stale_epochs = state.stage + 1, 0, 0, 0
        state.loss_sum, state.score_sum, state.seen = 0.0, 0.0, 0
        state.stage_best, state.stage_best_variables, state.stage_best_figures = None, [], []
        state.drops = state.stale_since_drop = 0
        if state.stage < len(self.stages):
            state.best_variables = values_of(self._tracked(state.stage, self.model))
        state.variables, state.optimizer = [], []

    def _heed(self, deadline, state):
        """Once the deadline is over, let the stages say that they end here, if there is anything to ship, or to end."""
        left = sum(stage.trained_epochs for stage in self.stages[state.stage :]) - state.epoch
        if left > 0 and deadline.is_over() and self.candidate(state) is not None:
            self.stages = deadline.cut(self.stages, state.stage, state.epoch)

    def candidate(self, state):
        """Return the row of what would ship if the training ended now: the probe's or an epoch's; None for nothing."""
        return state.stage_best if self._stage_would_ship(state) else state.best

    @contextlib.contextmanager
    def holding_best(self, state):
        """Let the model hold what `candidate` names for as long as the context lasts."""
        values = state.stage_best_variables if self._stage_would_ship(state) else state.best_variables
        variables = self._tracked(state.stage, self.model)
        before = values_of(variables)
        assign(variables, values)
        try:
            yield
        finally:
            assign(variables, before)

    @staticmethod
    def _stage_would_ship(state):
        if state.stage_best is None or state.best is None:
            return state.stage_best is not None
        return beats(state.stage_best_figures[0], state.best_figures[0])[0]

    def _choose(self, state, listener):
        """Keep what was best so far unless the stage's best beats it on the same validation images."""
        if state.best is None:
            wins, record = True, {}
        else:
            wins, difference, error = beats(state.stage_best_figures[0], state.best_figures[0])
            record = {"difference": difference, "standard_error": error, "against": _name(state.best)}
            listener.note(
                f"{_name(state.stage_best)} against {_name(state.best)}, paired on validation: "
                f"{difference:+.3f} ± {error:.3f} {self._figure_name}; {'taken' if wins else 'not taken'}"
            )
        candidate = {key: state.stage_best[key] for key in ("stage", "epoch", "val_loss", "val_accuracy")}
        state.selection.append(candidate | record | {"taken": wins})
        if wins:
            state.best, state.best_figures = state.stage_best, state.stage_best_figures
            state.best_variables = state.stage_best_variables

    def _take(self, state, trainer):
        state.variables = values_of(self._tracked(state.stage, self._model_of(state.stage)))
        state.optimizer = values_of(trainer.state_variables)
        state.log_variances = trainer.log_variances

    def _tracked(self, number, model):
        """Return the variables that stages 0 to `number` may have changed: those above the deepest cut among them."""
        depth = max((unfrozen_blocks(stage, self.ends) for stage in self.stages[: number + 1]), default=0)
        if (depth, id(model)) not in self._variables:
            _, suffix = cut(model, self.ends, depth, self.tasks)
            self._variables[depth, id(model)] = suffix.variables
        return self._variables[depth, id(model)]

    def _model_of(self, number):
        """Return the model that a stage trains: the one that ships, or its like for another image size."""
        size = self.stages[number].image_size
        if size in ("full", self.model.input_shape[1]):
            return self.model
        if size not in self._resized:
            self._resized[size] = resized(self.model, size)
        return self._resized[size]

    @property
    def _figure_name(self):
        return "loss" if self.craft.monitor == "loss" else "error"

    def _figures(self, validation):
        """Return the monitored figure of each validation image, such that low is good."""
        return validation.losses if self.craft.monitor == "loss" else 1.0 - validation.scores

    def _score(self, row):
        """Return what is to be highest: the monitored figure, then the other one to break ties."""
        by_loss, by_accuracy = -row["val_loss"], row["val_accuracy"]
        return (by_loss, by_accuracy) if self.craft.monitor == "loss" else (by_accuracy, by_loss)

    def _is_stale(self, state):
        return bool(self.craft.patience) and state.stale_epochs >= self.craft.patience


def _name(row):
    return "the probe" if row["stage"] < 0 else f"stage {row['stage']} epoch {row['epoch'] + 1}"


def _refuse_nan(what, loss, state, stage):
    if not math.isfinite(loss):
        raise TlkitError(
            f"stage {state.stage}, epoch {state.epoch}, step {state.step}: the {what} is {loss}. Try a new run with a "
            f"tenth of that stage's learning_rate, {stage.learning_rate / 10:g}; the run's recipe.toml names it"
        )
