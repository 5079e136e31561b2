"""One optimizer for a stage: Keras's, with a learning rate of its own for every block."""

import keras

from tlkit.training.variables import as_scalar

MOMENTUM = 0.9


def _sgd(**settings):
    return keras.optimizers.SGD(momentum=MOMENTUM, nesterov=True, **settings)


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": _sgd,
    "rmsprop": keras.optimizers.RMSprop,
}


class BlockOptimizer(keras.optimizers.MultiOptimizer):
    """An optimizer per block. Only ever trained with, never saved.

    Args:
        stage: The `Stage`: `optimizer`, `block_factor`, `weight_decay`, `clip_norm`, `accumulate`.
        blocks: List of lists of `keras.Variable`s that train: the head's first, then block by block towards the image.
            The blocks' rates are `block_factor ** n` of the rate that is set.
    """

    def __init__(self, stage, blocks):
        groups = blocks if stage.block_factor < 1 else [[variable for block in blocks for variable in block]]
        made = {depth: _make(stage, variables) for depth, variables in enumerate(groups) if variables}
        by_variable = {id(variable): made[depth] for depth, group in enumerate(groups) for variable in group}
        super().__init__(lambda variable: by_variable[id(variable)])
        self._made, self._factor = list(made.items()), stage.block_factor

    def set_learning_rate(self, rate):
        """Set the head's learning rate, and each block's share of it."""
        for depth, optimizer in self._made:
            optimizer.learning_rate = as_scalar(rate * self._factor**depth)


def _make(stage, variables):
    none = 0.0 if stage.optimizer == "adamw" else None
    optimizer = OPTIMIZERS[stage.optimizer](
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay or none,
        global_clipnorm=stage.clip_norm or None,
        gradient_accumulation_steps=stage.accumulate if stage.accumulate > 1 else None,
    )
    if stage.weight_decay:  # biases and the scales of normalization don't decay
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    return optimizer
