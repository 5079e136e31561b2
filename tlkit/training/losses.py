"""Losses and figures over the logits of all tasks."""

import keras
import numpy as np
from scipy.special import log_softmax


def task_losses(tasks):
    """Return the training loss of each task, on logits.

    Args:
        tasks: Dict of task name to `Task`.

    Returns:
        Dict of task name to `keras.losses.Loss`; the total is their sum.
    """
    return {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True, name=name) for name in tasks}


def loss_and_correct(logits, labels):
    """Return summed cross-entropy and number of correct predictions, over all tasks, in float64.

    Args:
        logits: Dict of task name to float array `(batch, classes)`.
        labels: Dict of task name to int array `(batch,)`.

    Returns:
        `(loss_sum, correct)`: sums over the images, and means over the tasks for `correct`.
    """
    loss_sum = correct = 0.0
    for name, true in labels.items():
        log_probabilities = log_softmax(np.asarray(logits[name], np.float64), axis=-1)
        loss_sum -= float(log_probabilities[np.arange(len(true)), true].sum())
        correct += float((log_probabilities.argmax(axis=-1) == true).sum()) / len(labels)
    return loss_sum, correct
