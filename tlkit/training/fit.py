"""The training loop: stage after stage, batch after batch, from whatever state it is given."""

import contextlib
import gc
import itertools
import time

import numpy as np

from tlkit.errors import LostImageError, NoLabelError, OutOfMemoryError, Stopped
from tlkit.models.assemble import freeze
from tlkit.models.chain import Chain
from tlkit.recipe_keys import Stage
from tlkit.training.average import BestEpochs
from tlkit.training.checkpoint import TrainingState, refuse_unfit, restore
from tlkit.training.clock import Deadline, StageClock
from tlkit.training.contest import PROBE, Contest
from tlkit.training.floor import fit_floor
from tlkit.training.interrupt import StopRequest
from tlkit.training.lr_find import range_test
from tlkit.training.rules import resolve_stage
from tlkit.training.safe_point import NoNumberError, SafePoint, refuse_no_number, refuse_no_numbers
from tlkit.training.splits import PROBE_STAGE, Splits
from tlkit.training.stage import Craft, unfrozen_blocks
from tlkit.training.stage_models import StageModels
from tlkit.training.variables import assign, in_place, values_of


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
        splits: `Splits`: how many images are computed at once; None for a batch at a time as long as memory lasts.
        digests: As for `tlkit.models.chain.Chain`.
        early_images: Images of which a passing model is made before the features of all are computed; 0 for none.

    Attributes:
        chain: `Chain` of the model as it was when its last stage began.
        splits: As given, and what was added where memory ran out.
    """

    def __init__(
        self,
        model,
        stages,
        *,
        ends,
        tasks,
        features,
        craft=None,
        probe_views=(),
        auxiliaries=None,
        splits=None,
        digests=None,
        early_images=0,
    ):
        self.model, self.ends, self.tasks = model, ends, tasks
        self.stages = [resolve_stage(stage) for stage in stages]
        self.features, self.steps_per_epoch = features, features.steps_per_epoch
        self.craft, self.probe_views = craft or Craft(), probe_views
        self.chain, self.splits = None, splits or Splits(features.batch_size)
        self._digests, self._early_images = {} if digests is None else digests, early_images
        self._safe, self._contest = None, Contest(self.craft.monitor, self.craft.patience)
        self._models = StageModels(
            model,
            self.stages,
            ends=ends,
            tasks=tasks,
            steps_per_epoch=self.steps_per_epoch,
            craft=self.craft,
            auxiliaries=auxiliaries,
        )

    def run(self, state, *, checkpoint, listener, stop, on_epoch, on_candidate=None, deadline=None):
        """Train from `state` to the end and leave the chosen weights in the model.

        Args:
            state: `TrainingState`: fresh, or as loaded from a checkpoint. Changed in place.
            checkpoint: `Checkpoint` that is written when due and at the end.
            listener: `Listener` that is told of every step and epoch.
            stop: `StopRequest`; once its signal is set, the state is saved and `Stopped` is raised.
            on_epoch: Called with the state after every epoch.
            on_candidate: Called with the state whenever `holding_best` may hold something better: after a probe, and
                after every epoch; with `at_once=True` after the probe of all images, and where the training is about
                to fail.
            deadline: `Deadline`; once it is over, the training ends with what there is, if there is anything.

        Raises:
            NoNumberError: If the loss or a weight is no number; the state before that is saved.
            LostImageError: If an image can't be read any more; the state is saved.
            OutOfMemoryError: If memory runs out for a single image.
        """
        deadline, on_candidate = deadline or Deadline(), on_candidate or (lambda state, at_once=False: None)
        state.history.reserve(sum(stage.trained_epochs for stage in self.stages))
        if not state.begun:
            self._begin(state, checkpoint, listener, stop, on_candidate)
            on_candidate(state, at_once=True)
        while state.stage < len(self.stages):
            self._heed(deadline, state)
            if not self.stages[state.stage].trained_epochs:
                self._advance(state)
                continue
            full = None
            try:
                self._train_stage(state, checkpoint, listener, stop, on_epoch, on_candidate, deadline)
            except NoNumberError:
                if self.candidate(state) is not None:
                    on_candidate(state, at_once=True)
                self._safe.restore(state)
                if state.variables:
                    checkpoint.save(state)
                raise
            except OutOfMemoryError as error:
                full = error.bare()
            if full:
                self._safe.restore(state)
                self._halve(full, state.stage, state.epoch * self.steps_per_epoch + state.step, listener)
        self.hold_chosen(state)
        depth = unfrozen_blocks(self.stages[-1], self.ends) if self.stages else 0
        freeze(self.model, self.ends, depth, batch_norm=self.craft.norm_policy)
        state.variables, state.optimizer = [], []
        checkpoint.save(state)
        if stop.signal:
            raise Stopped(stop.signal, checkpoint.resume_command)

    def hold_chosen(self, state):
        """Put the weights that were chosen into the model, once the training is over."""
        restore(self._models.tracked(len(self.stages) - 1, self.model), state.best_variables)

    def _train_stage(self, state, checkpoint, listener, stop, on_epoch, on_candidate, deadline):
        """Train a stage to its end, or to where its batches begin to be computed in other parts."""
        self._safe = SafePoint(state)
        clock = StageClock(state)
        try:
            trainer = self._start_stage(state)
        except LostImageError:
            checkpoint.save(state)
            raise
        total = self.stages[state.stage].epochs * self.steps_per_epoch
        done = state.epoch * self.steps_per_epoch + state.step
        self._take(state, trainer)
        listener.stage_started(state.stage, self.stages, total, done)
        try:
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
                at = state.epoch * self.steps_per_epoch + state.step
                if at > done and self.splits.begin(state.stage, at):
                    self._take(state, trainer)
                    return
            listener.stage_finished()
            self._finish_stage(state, trainer, listener)
        except LostImageError:
            self._take(state, trainer)
            checkpoint.save(state)
            raise

    def _halve(self, full, stage, step, listener):
        """Compute half as many images at once from a step on."""
        listener.note(self.splits.halve(full, stage, step, trains_norms=self.craft.batch_norm == "train"))
        gc.collect()

    def refuse_another(self, state):
        """Refuse a state of other stages or of another model, as a checkpoint may hold after the recipe changed.

        Raises:
            RunError: If it can't be trained on from.
        """
        number = min(state.stage, len(self.stages) - 1)
        tracked = self._models.tracked(number, self.model)
        if state.best_variables:
            refuse_unfit(tracked, state.best_variables)
        if state.variables:
            rows = self.splits.rows("training", number, state.epoch * self.steps_per_epoch + state.step)
            trainer = self._models.trainer(self._models.trained(number), self.stages[number], rows, state.log_variances)
            refuse_unfit([*tracked, *trainer.state_variables], [*state.variables, *state.optimizer])

    def range_test(self, steps, listener):
        """Do the learning-rate range test of the only stage, from where it would begin; the model is trained in place.

        Yields:
            `tlkit.training.lr_find.RangeTest` after every step.
        """
        state = TrainingState()
        self._begin(state, None, listener, StopRequest(), None)
        trainer = self._start_stage(state)
        yield from range_test(trainer, self.features.training(0), steps)

    def _begin(self, state, checkpoint, listener, stop, on_candidate):
        """Fit the probe, put it into the head, and take it for the best so far; with fewer images at once if needed."""
        full = None
        while not state.begun:
            try:
                self._fit_probe(state, checkpoint, listener, stop, on_candidate)
            except OutOfMemoryError as error:
                full = error.bare()
            if not state.begun:
                self._halve(full, PROBE_STAGE, 0, listener)

    def _fit_probe(self, state, checkpoint, listener, stop, on_candidate):
        started = time.monotonic()
        if self.probe_views:
            self.chain = self._chain_of(self.model, PROBE_STAGE, 0)
            self.features.start_stage(self.chain, self.chain.position(0), self._cuts_from(0))
            if self._early_images:
                self._offer_early_probe(state, listener, on_candidate)
            for seconds in self.features.prepare_views(self.probe_views):
                state.pass_seconds += seconds
                if stop.signal:
                    checkpoint.save(state)
                    raise Stopped(stop.signal, checkpoint.resume_command)
            trainer = self._probe_trainer(state)
            weights = self.craft.class_weights
            probes = fit_floor(trainer.suffix, self.tasks, self.features, self.probe_views, weights)
            if probes is None:
                listener.note("the head is not linear: it begins at random, and there is no probe to beat")
            else:
                figures = self._take_probe(state, trainer, self.features)
                state.probe = state.best
                listener.probe_fitted(state.probe)
                strengths = ", ".join(f"{probe.strength:g}" for probe in probes.values())
                listener.note(
                    f"linear probe of the frozen features: val loss {figures.loss:.3f}  val accuracy "
                    f"{figures.score:.3f}  (penalty {strengths}); the head begins there, and training has to beat it"
                )
        state.begun = True
        state.probe_seconds = time.monotonic() - started

    def _offer_early_probe(self, state, listener, on_candidate):
        """Offer a probe of a few images, which is there if the process is killed; nothing else comes of it."""
        some, trainer = self.features.sample(self._early_images), self._probe_trainer(state)
        with contextlib.suppress(NoLabelError):
            if fit_floor(trainer.suffix, self.tasks, some, self.probe_views[:1], self.craft.class_weights):
                figures = self._take_probe(state, trainer, some)
                on_candidate(state)
                listener.note(
                    f"a first model, of {self._early_images} training and validation images (val accuracy "
                    f"{figures.score:.3f} of {len(figures.losses)}), is kept until there is one of all"
                )
        state.best, state.best_figures, state.best_variables = None, [], []

    def _take_probe(self, state, trainer, features):
        """Take the probe that is in the head for the best so far; return its validation figures."""
        figures = trainer.evaluate(features.validation())
        state.best = PROBE | {"val_loss": figures.loss, "val_accuracy": figures.score}
        state.best_figures = [self._contest.figures(figures)]
        state.best_variables = values_of(self._models.tracked(0, self.model))
        return figures

    def _probe_trainer(self, state):
        rows = self.splits.rows("training", PROBE_STAGE)
        return self._models.trainer(
            self.model, Stage(unfreeze=0, epochs=1, learning_rate=1.0), rows, state.log_variances
        )

    def _chain_of(self, model, stage, step):
        rows = self.splits.rows("frozen", stage, step)
        return Chain(model, self.ends, self.tasks, rows, known=self.chain, digests=self._digests)

    def _start_stage(self, state):
        """Build the stage's trainer and put the state into it: a resumed one, or the best epoch so far."""
        resuming = bool(state.variables)
        if state.best_variables:
            restore(self._models.tracked(state.stage, self.model), state.best_variables)
        model = self._models.trained(state.stage)
        if model is not self.model:
            assign(model.variables, values_of(self.model.variables))
        if resuming:
            restore(self._models.tracked(state.stage, model), state.variables)
        step = state.epoch * self.steps_per_epoch + state.step
        rows = self.splits.rows("training", state.stage, step)
        trainer = self._models.trainer(model, self.stages[state.stage], rows, state.log_variances)
        if resuming:
            restore(trainer.state_variables, state.optimizer)
        self.chain = self._chain_of(self.model, state.stage, step)
        (position, _), *later = self._cuts_from(state.stage)
        if model is self.model:
            self.features.start_stage(self.chain, position, later)
        else:
            self.features.start_stage(self.chain, position, later, self._chain_of(model, state.stage, step))
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
        while state.epoch < stage.trained_epochs and not self._contest.is_stale(state):
            for seconds in self.features.prepare(earlier_epochs + state.epoch):
                state.pass_seconds += seconds
                yield False
            while state.step < self.steps_per_epoch:
                batch = next(batches)
                step = state.epoch * self.steps_per_epoch + state.step
                loss, score = trainer.train_step(batch, step, state.drops)
                refuse_no_number("loss", loss, state, trainer.learning_rate_at(step, state.drops) if step else None)
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
        steps_done = (state.epoch + 1) * self.steps_per_epoch
        refuse_no_number("validation loss", figures.loss, state, trainer.learning_rate_at(steps_done - 1, state.drops))
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
        self._contest.count_stale(state, self.stages[state.stage], is_best)
        state.history.append(row)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum, state.score_sum, state.seen = 0.0, 0.0, 0
        listener.epoch_done(row, is_best)
        return True

    def _contend(self, state, row, figures, trainer):
        """Take an epoch for the stage's best if it is; return whether it is."""
        is_best = state.stage_best is None or self._contest.score(row) > self._contest.score(state.stage_best)
        if not is_best and not self.craft.average_best:
            return False
        with trainer.averaged():
            values = values_of(self._models.tracked(state.stage))
        if is_best:
            state.stage_best, state.stage_best_variables = row, values
            state.stage_best_figures = [self._contest.figures(figures)]
        if self.craft.average_best:
            BestEpochs(self.craft.average_best, state.kept_scores, state.kept).offer(
                self._contest.score(row)[0], values
            )
        return is_best

    def _finish_stage(self, state, trainer, listener):
        """Let the stage's best contend with the best so far; go on from the winner, with a fresh optimizer."""
        tracked = self._models.tracked(state.stage)
        best_epochs = BestEpochs(self.craft.average_best, state.kept_scores, state.kept)
        if (average := best_epochs.average()) is not None:
            with in_place(tracked, average):
                figures = trainer.evaluate(self.features.validation(), as_it_is=True)
            row = state.stage_best | {"val_loss": figures.loss, "val_accuracy": figures.score}
            if self._contest.score(row) > self._contest.score(state.stage_best):
                listener.note(
                    f"stage {state.stage}: the mean of its {len(state.kept_scores)} best epochs is better yet"
                )
                state.stage_best, state.stage_best_variables = row, average
                state.stage_best_figures = [self._contest.figures(figures)]
        best_epochs.forget()
        state.log_variances = trainer.log_variances
        if state.stage_best is not None:
            self._contest.choose(state, listener)
        self._advance(state)

    def _advance(self, state):
        """Put the best so far into the model, and turn to the next stage."""
        restore(self._models.tracked(state.stage, self.model), state.best_variables)
        state.stage, state.epoch, state.step, state.stale_epochs = state.stage + 1, 0, 0, 0
        state.loss_sum, state.score_sum, state.seen = 0.0, 0.0, 0
        state.stage_best, state.stage_best_variables, state.stage_best_figures = None, [], []
        state.drops = state.stale_since_drop = 0
        if state.stage < len(self.stages):
            state.best_variables = values_of(self._models.tracked(state.stage, self.model))
        state.variables, state.optimizer = [], []

    def _heed(self, deadline, state):
        """Once the deadline is over, let the stages say that they end here, if there is anything to ship, or to end."""
        left = sum(stage.trained_epochs for stage in self.stages[state.stage :]) - state.epoch
        if left > 0 and deadline.is_over() and self.candidate(state) is not None:
            self.stages = deadline.cut(self.stages, state.stage, state.epoch)

    def candidate(self, state):
        """Return the row of what would ship if the training ended now: the probe's or an epoch's; None for nothing."""
        return state.stage_best if self._contest.stage_would_ship(state) else state.best

    @contextlib.contextmanager
    def holding_best(self, state):
        """Let the model hold what `candidate` names for as long as the context lasts."""
        values = state.stage_best_variables if self._contest.stage_would_ship(state) else state.best_variables
        with in_place(self._models.tracked(state.stage, self.model), values):
            yield

    def _take(self, state, trainer):
        """Take the state's tensors from the model, if they are numbers: that is what the training may go back to."""
        variables = values_of(self._models.tracked(state.stage))
        done = state.epoch * self.steps_per_epoch + state.step
        refuse_no_numbers(variables, state, trainer.learning_rate_at(done - 1, state.drops) if done else None)
        state.variables, state.optimizer = variables, values_of(trainer.state_variables)
        state.log_variances = trainer.log_variances
        self._safe = SafePoint(state)
