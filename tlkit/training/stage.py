"""One stage of training: what is unfrozen, how it is stepped, and how it is validated."""

import contextlib
import hashlib
from dataclasses import dataclass, field

import keras
import numpy as np

from tlkit.errors import TlkitError
from tlkit.models.assemble import cut, freeze, variables_by_block
from tlkit.models.exhaustion import naming_exhaustion
from tlkit.training.average import MovingAverage
from tlkit.training.losses import AUXILIARY_WEIGHT, Objective, Validation, kernel_penalty
from tlkit.training.norms import norms_in_one_operation
from tlkit.training.optimizers import BlockOptimizer
from tlkit.training.repeatable import graphs_as_written
from tlkit.training.rules import resolve_stage
from tlkit.training.schedule import learning_rate
from tlkit.training.targets import Targets, in_parts
from tlkit.training.variables import assign, values_of


@dataclass
class Craft:
    """What is done alike in every stage, besides making the loss small.

    Attributes:
        batch_norm: Policy for the backbone's BatchNorm, see `tlkit.models.assemble.freeze`; `"recalibrate"` is
            `"frozen"` with statistics estimated anew when a stage begins.
        loss_weights: Dict of task to the weight of its loss, or `"uncertainty"`.
        label_smoothing: Share in [0, 1) of the targets spread over all classes.
        class_weights: Dict of single-label task to float `(classes,)`.
        focal_gamma: Exponent of the focal loss; 0 for plain cross-entropy.
        l1, l2: Weights of the penalties on all kernels that train.
        l2_sp: Weight of the penalty on distance from the pretrained weights.
        ema: Decay of the moving average of the weights; 0 for none.
        average_best: How many of a stage's best epochs are averaged; 0 for none.
        precision: `"float32"` or `"bfloat16"`, in which unfrozen layers compute while they train.
        monitor: `"loss"` or `"accuracy"`: the validation figure that chooses the best epoch.
        patience: Epochs without a better one that end a stage; 0 for never.
    """

    batch_norm: str = "frozen"
    loss_weights: dict | str = field(default_factory=dict)
    label_smoothing: float = 0.0
    class_weights: dict = field(default_factory=dict)
    focal_gamma: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    l2_sp: float = 0.0
    ema: float = 0.0
    average_best: int = 0
    precision: str = "float32"
    monitor: str = "loss"
    patience: int = 0

    @property
    def norm_policy(self):
        """What `tlkit.models.assemble.freeze` is told of the backbone's BatchNorm."""
        return "train" if self.batch_norm == "train" else "frozen"


class StageTrainer:
    """One stage on a model: the suffix trains on what comes out of the frozen prefix.

    Args:
        model: What `tlkit.models.assemble.assemble` returns; its layers are trained in place.
        stage: The `Stage`.
        ends: Names of the model's block ends, from the image to the head.
        tasks: Dict of task name to `Task`.
        steps_per_epoch: Batches in an epoch.
        craft: `Craft`.
        anchor: `tlkit.training.losses.Anchor`, or None.
        log_variances: Where learned weights of the tasks' losses begin, `(tasks,)`; None for 0.
        validated: Model of the same layout on which the stage is validated, if it isn't the one that trains.
        auxiliaries: Function from the model to a list of dicts of task to logits, KerasTensors in its graph:
            classifiers whose losses are added while all blocks train, and that no one needs afterwards.
        rows: How many images are computed at once, if not all of a batch: a step then adds up the gradients of parts.
    """

    def __init__(
        self,
        model,
        stage,
        *,
        ends,
        tasks,
        steps_per_epoch,
        craft=None,
        anchor=None,
        log_variances=None,
        validated=None,
        auxiliaries=None,
        rows=None,
    ):
        self._rows, self._functions = rows, {}
        self.stage, self.tasks, self._steps_per_epoch = resolve_stage(stage), tasks, steps_per_epoch
        self.craft = craft = craft or Craft()
        depth = unfrozen_blocks(stage, ends)
        freeze(model, ends, depth, batch_norm=craft.norm_policy)
        self.targets = Targets(tasks, craft.label_smoothing, craft.class_weights)
        self.objective = Objective(tasks, craft.loss_weights, craft.focal_gamma)
        _, suffix = cut(model, ends, depth, tasks)
        beside = auxiliaries(model) if auxiliaries and depth == len(ends) else []
        outputs = [suffix.output, *beside] if beside else suffix.output
        self.suffix = _Trainee(suffix.inputs[0], outputs, name=suffix.name)
        self.suffix.prepare(self.objective, anchor, craft.l1, craft.l2, log_variances)
        head, *blocks = variables_by_block(model, ends)
        shipped = set(map(id, suffix.variables))
        self._own = [variable for variable in self.suffix.variables if id(variable) not in shipped]
        own = [variable for variable in self._own if variable.trainable]
        training = set(map(id, self.suffix.trainable_variables))
        blocks = [[v for v in block if id(v) in training] for block in ([*head, *own], *blocks)]
        self.optimizer = BlockOptimizer(self.stage, blocks)
        norms = (layer for layer in self.suffix.layers if isinstance(layer, keras.layers.BatchNormalization))
        self._trains_norms = any(layer.trainable for layer in norms)
        self.suffix.compile(self.optimizer, jit_compile=False)
        self.optimizer.build(self.suffix.trainable_variables)
        self.average = MovingAverage(suffix.variables, craft.ema) if craft.ema else None
        self._validated, self._copies = suffix if beside else self.suffix, []
        if validated is not None and validated is not model:
            _, self._validated = cut(validated, ends, depth, tasks)
            self._copies = list(zip(self._validated.variables, suffix.variables, strict=True))

    @property
    def state_variables(self):
        """All that a step changes besides the model: the optimizer's, the averages, learned weights, auxiliaries."""
        return [*self.optimizer.variables, *(self.average.values if self.average else ()), *self._own]

    @property
    def log_variances(self):
        """The learned weights of the tasks' losses, as a list of floats; empty where they aren't learned."""
        return values_of([self.suffix.log_variances])[0].tolist() if self.objective.learns_weights else []

    @property
    def held_norms(self):
        """The suffix's BatchNorm layers that stay in inference mode."""
        norms = [layer for layer in self.suffix.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return [layer for layer in norms if not layer.trainable]

    def train_step(self, batch, step, drops=0, rate=None):
        """Train on one batch.

        Args:
            batch: `tlkit.training.features.Batch`.
            step: Step of the stage, from 0.
            drops: How often a plateau has been met in this stage.
            rate: The head's learning rate; by default what the schedule says.

        Returns:
            Its loss, penalties included, and its score, see `Objective.score`.

        Raises:
            OutOfMemoryError: If memory runs out; what a step changes may then be half changed.
        """
        self.optimizer.set_learning_rate(self.learning_rate_at(step, drops) if rate is None else rate)
        self.suffix.reset_metrics()  # so that what comes back is of this batch alone, and no metric is state
        targets = self.targets.encode(batch.labels, batch.partners, batch.shares)
        size = len(batch.features)
        rows = min(size, self._rows or size)
        with (
            naming_exhaustion("training", rows),
            computing_in(self.suffix, self.craft.precision),
            self._training_norms(),
        ):
            if rows < size:
                logs = self.suffix.train_in_parts(batch.features, in_parts(targets, rows), rows)
            else:
                with self._function(self.suffix, "train_function", size):
                    logs = self.suffix.train_on_batch(batch.features, targets, return_dict=True)
        if self.average:
            self.average.update(step)
        return float(logs["loss"]), float(logs["score"])

    @contextlib.contextmanager
    def _training_norms(self):
        """Return a context in which steps that train BatchNorm are fast, and the same bits in every process."""
        if not self._trains_norms:
            yield
            return
        with norms_in_one_operation(self.suffix), graphs_as_written():
            yield

    def evaluate(self, feature_batches, stop=None, as_it_is=False):
        """Return the `Validation` over all images of `feature_batches`, on averaged weights if there are any.

        Args:
            feature_batches: Iterable of `(features, labels)`.
            stop: `StopRequest`; once its signal is set, None is returned.
            as_it_is: Whether the model's own weights are validated, even if there are averaged ones.

        Raises:
            OutOfMemoryError: If memory runs out.
        """
        logits, labels = {name: [] for name in self.tasks}, {name: [] for name in self.tasks}
        with contextlib.nullcontext() if as_it_is else self.averaged():
            for target, source in self._copies:
                target.assign(source.value)
            for features, of_batch in feature_batches:
                if stop and stop.signal:
                    return None
                for part in self._parts(features):
                    with (
                        naming_exhaustion("training", len(part)),
                        self._function(self._validated, "predict_function", len(part)),
                    ):
                        predicted = self._validated.predict_on_batch(part)
                    for name in self.tasks:
                        logits[name].append(np.asarray(predicted[name]))
                for name in self.tasks:
                    labels[name].append(of_batch[name])
        joined = [{name: np.concatenate(parts) for name, parts in by_task.items()} for by_task in (logits, labels)]
        return Validation(self.tasks, *joined, self.objective.weights)

    @contextlib.contextmanager
    def _function(self, model, kind, size):
        """Let a model compute by a function that has seen batches of this size only.

        Keras's own is traced anew for a second size, and then for any: its bits would depend on which size came first,
        hence on the step at which a run was resumed.
        """
        setattr(model, kind, self._functions.get((kind, size)))
        yield
        self._functions[kind, size] = getattr(model, kind)

    def _parts(self, features):
        rows = self._rows or len(features)
        return [features[start : start + rows] for start in range(0, len(features), rows)]

    def averaged(self):
        """Return a context in which the model has its averaged weights, if it has any."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def learning_rate_at(self, step, drops=0):
        """Return the head's learning rate at the stage's step `step`, from 0."""
        return learning_rate(self.stage, step, self._steps_per_epoch, drops)

    def recalibrate(self, batches):
        """Estimate the statistics of the suffix's frozen BatchNorm anew, as those of all images of some batches.

        Args:
            batches: Iterable of `Batch`, at least one.

        Reference:
            Li et al. 2016, https://arxiv.org/abs/1603.04779; in one pass as Izmailov et al. 2018,
            https://arxiv.org/abs/1803.05407, section 3.2.
        """
        held = self.held_norms
        momenta = [layer.momentum for layer in held]
        seen, sizes = [], []
        try:
            for layer in held:
                layer.trainable, layer.momentum = True, 0.0  # so that a batch's statistics can be read off
            for part in (part for batch in batches for part in self._parts(batch.features)):
                with naming_exhaustion("training", len(part)):
                    self.suffix(part, training=True)
                seen.append([(values_of([layer.moving_mean, layer.moving_variance])) for layer in held])
                sizes.append(len(part))
        finally:
            for layer, momentum in zip(held, momenta, strict=True):
                layer.trainable, layer.momentum = False, momentum
        for number, layer in enumerate(held):
            means, variances = (np.array([of_batch[number][which] for of_batch in seen]) for which in (0, 1))
            mean = np.average(means, axis=0, weights=sizes)
            spread = np.average(variances + np.square(means - mean), axis=0, weights=sizes)
            assign([layer.moving_mean, layer.moving_variance], [mean, spread])


class _Trainee(keras.Model):
    """The suffix with tlkit's objective. Only ever trained, never saved."""

    def prepare(self, objective, anchor, l1, l2, log_variances):
        self._objective, self._anchor, self._l1, self._l2 = objective, anchor, l1, l2
        self.log_variances = self._of_part = self._apply = None
        self._reached = []
        if objective.learns_weights:
            self.log_variances = self.add_weight(shape=(len(objective.tasks),), initializer="zeros", name="s")
            if log_variances:
                self.log_variances.assign(np.array(log_variances, np.float32))

    def train_in_parts(self, features, targets, rows):
        """Do one step on a batch whose parts are computed one after the other.

        Args:
            features: float32 `(batch, ...)`.
            targets: What `tlkit.training.targets.in_parts` returns.
            rows: Images of a part.

        Returns:
            Dict of `loss` and `score` of the batch.
        """
        if keras.backend.backend() != "tensorflow":
            raise TlkitError("batches are computed in parts under TensorFlow only. Choose a smaller batch_size.")
        import tensorflow as tf

        if self._of_part is None:
            self._of_part = tf.function(self._gradients_of_part, autograph=False, jit_compile=False)
            self._apply = tf.function(self._apply_mean, autograph=False, jit_compile=False)
        total = None
        for number, of_part in enumerate(targets):
            found = self._of_part(tf.constant(features[number * rows : (number + 1) * rows]), of_part)
            total = found if total is None else tf.nest.map_structure(tf.add, total, found)
        self._apply(total["gradients"], tf.constant(len(targets), tf.float32))
        return {name: float(total[name]) / len(targets) for name in ("loss", "score")}

    def _gradients_of_part(self, features, targets):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = self(features, training=True)
            loss = self.compute_loss(x=features, y=targets, y_pred=outputs)
        gradients = tape.gradient(loss, self.trainable_variables)
        self._reached = [place for place, gradient in enumerate(gradients) if gradient is not None]
        gradients = [gradients[place] for place in self._reached]
        outputs = outputs[0] if isinstance(outputs, list) else outputs
        return {"loss": loss, "score": self._objective.score(outputs, targets), "gradients": gradients}

    def _apply_mean(self, gradients, count):
        variables = [self.trainable_variables[place] for place in self._reached]
        self.optimizer.apply([gradient / count for gradient in gradients], variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        variables = [variable for variable in self.trainable_variables if variable is not self.log_variances]
        y_pred, *beside = y_pred if isinstance(y_pred, list) else [y_pred]
        loss = self._objective.total(y_pred, y, self.log_variances) + sum(self.losses)
        loss = loss + AUXILIARY_WEIGHT * sum(self._objective.total(logits, y, self.log_variances) for logits in beside)
        loss = loss + kernel_penalty(variables, self._l1, self._l2)
        return loss + self._anchor.penalty(variables) if self._anchor else loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        y_pred = y_pred[0] if isinstance(y_pred, list) else y_pred
        return logs | {"score": self._objective.score(y_pred, y)}


@contextlib.contextmanager
def computing_in(model, precision):
    """Let a model's layers compute in a precision for as long as the context lasts; variables stay float32.

    Reference:
        Micikevicius et al. 2017, https://arxiv.org/abs/1710.03740, section 3.1 (a float32 master copy of the weights).
    """
    if precision == "float32":
        yield
        return
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = f"mixed_{precision}"
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def unfrozen_blocks(stage, ends):
    """Return how many blocks the stage unfreezes."""
    return len(ends) if stage.unfreeze == "all" else min(stage.unfreeze, len(ends))


def weights_hash(model):
    """Return the sha256 of all the model's variables, in order: which model a training started from."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()
