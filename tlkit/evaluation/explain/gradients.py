"""What needs gradients: Grad-CAM, the plain gradient, guided backpropagation, and the slopes of gradient ascent.

The only module of the explanations that imports TensorFlow. A model that is explained is never changed: guided
backpropagation computes with a copy.
"""

import cv2
import keras
import numpy as np
import tensorflow as tf

from tlkit.evaluation.explain.targets import (
    as_batch,
    before_gate,
    feature_map,
    is_gate,
    is_gate_function,
    logits_tensor,
)

# Images whose intermediate results are kept at a time: so many, or so many pixels of them if they are large.
BATCH_SIZE, BATCH_PIXELS = 8, 8 * 224**2


def grad_cam(model, ends, tasks, image, task_name, class_index, layer=None):
    """Show where in an image a model sees what speaks for a class.

    Args:
        model: `keras.Model` that `tlkit.models.assemble.assemble` made, or one of that form.
        ends: Names of its block ends, first block first.
        tasks: Dict of task name to `Task`.
        image: uint8 or float32 RGB `(size, size, 3)` in [0, 255], as the model takes it.
        task_name: Which of the tasks.
        class_index: Position of the class in the task's `classes`; 0 for a number.
        layer: Name of a layer with a feature map; None for the last block end.

    Returns:
        float32 `(size, size)` in [0, 1], its largest value 1; all zeros where nothing speaks for the class.

    Raises:
        TlkitError: If there is no such task or layer, or the image has another size.

    Reference:
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
    """
    return grad_cams(model, ends, tasks, np.asarray(image)[None], task_name, [class_index], layer)[0]


def grad_cams(model, ends, tasks, images, task_name, class_indices, layer=None, batch_size=None):
    """Do what `grad_cam` does for many images.

    Args:
        model, ends, tasks, task_name, layer: As for `grad_cam`.
        images: uint8 or float32 RGB `(n, size, size, 3)` in [0, 255].
        class_indices: int array `(n,)`: the class of each image.
        batch_size: How many images go through the model at a time; None for 8, or fewer if they are large.

    Returns:
        float32 `(n, size, size)` in [0, 1].
    """
    maps, slopes = maps_and_slopes(model, ends, tasks, images, task_name, class_indices, layer, batch_size)
    return weighed(maps, slopes, model.input_shape[1:3])


def weighed(maps, slopes, shape):
    """Return the Grad-CAM of feature maps and slopes from `maps_and_slopes`, stretched to `(height, width)`."""
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    coarse = np.maximum((weights * maps).sum(axis=-1), 0)
    fine = [unit(cv2.resize(found, shape[::-1], interpolation=cv2.INTER_LINEAR)) for found in coarse]
    return np.stack(fine) if fine else np.zeros((0, *shape), np.float32)


def input_gradients(model, tasks, images, task_name, class_indices, batch_size=None):
    """Return how much a class's logit rises with every value of an image, float32 `(n, size, size, 3)`.

    Of a model that `guided_copy` made, that is guided backpropagation.

    Args:
        model, tasks, images, task_name, class_indices, batch_size: As for `grad_cams`.

    Reference:
        Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 3.
    """
    logits = logits_tensor(model, tasks, task_name)
    images, classes = as_batch(images, model), np.asarray(class_indices, np.int64)
    scored = keras.Model(model.inputs[0], logits)

    def compute(batch, of_batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            chosen = tf.gather(scored(batch, training=False), of_batch, batch_dims=1)
        return [tape.gradient(chosen, batch)]

    found = _in_batches(compute, images, classes, batch_size)
    return np.concatenate([np.zeros((0, *images.shape[1:]), np.float32), *(slopes for (slopes,) in found)])


def ascent_slopes(model, ends, tasks, task_name, class_index, channels, layer=None):
    """Return the function that gradient ascent climbs by: of a class's logit, and of a layer's channels.

    Args:
        model, ends, tasks, task_name, class_index, layer: As for `grad_cam`.
        channels: Positions of channels of the layer; each counts by its mean over the map, before its activation.

    Returns:
        Function from float32 `(1 + channels, size, size, 3)` to `(values, slopes)`: the first image's logit, each other
        image's channel, float32 `(1 + channels,)`, and how much they rise with every value of their images.
    """
    looked_at = before_gate(model, feature_map(model, ends, layer))
    both = keras.Model(model.inputs[0], [looked_at, logits_tensor(model, tasks, task_name)])
    rows = np.arange(1, 1 + len(channels))

    def compute(images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            maps, scores = both(images, training=False)
            means = tf.gather_nd(tf.reduce_mean(maps, (1, 2)), np.stack([rows, np.asarray(channels, int)], 1))
            values = tf.concat([scores[:1, class_index], means], 0)
        return values, tape.gradient(values, images)

    shape = tf.TensorSpec((1 + len(channels), *model.input_shape[1:]), tf.float32)
    compiled = tf.function(compute, input_signature=[shape], autograph=False, jit_compile=False)
    return lambda images: tuple(values.numpy() for values in compiled(tf.constant(images, tf.float32)))


def guided_copy(model):
    """Copy a model, its gates such that only what speaks for something goes back through them.

    A gate is one of `tlkit.evaluation.explain.targets.GATES`, as a layer, inside a layer, or of `keras.ops`. Going
    back, its own slope counts only where the value that came in was positive and the slope that arrives is, too: for
    ReLU and ReLU6 that is the paper's rule; for smooth gates, which the paper does not know (swish, GELU and their
    kind), it is the same rule with their slope in place of 1. Sigmoids and PReLU stay as they are. Forward, nothing
    changes.

    Args:
        model: `keras.Model`, flat or with models as layers. It stays as it is.

    Returns:
        `keras.Model` with the same values, its layers called as in `model`.

    Reference:
        Springenberg et al. 2014, https://arxiv.org/abs/1412.6806, section 3.4; the gate of slopes is Zeiler & Fergus
        2013, https://arxiv.org/abs/1311.2901.
    """
    pairs = []

    def copy(operation):
        if is_gate(operation):
            return keras.layers.Activation(_guided(operation.call), name=operation.name)
        new = type(operation).from_config(operation.get_config())
        if is_gate_function(getattr(operation, "activation", None)):
            new.activation = _guided(operation.activation)
        if isinstance(operation, keras.layers.Layer):
            pairs.append((operation, new))
        return new

    functional = keras.Model(model.inputs[0], model.output, name=model.name)
    found = keras.models.clone_model(functional, clone_function=copy, recursive=True)
    for layer, new in pairs:
        new.set_weights(layer.get_weights())
        if isinstance(new, keras.layers.Normalization):
            new.finalize_state()  # it computes with copies of its weights
    return found


def _guided(activation):
    """Return an activation with the slope that `guided_copy` describes."""

    @tf.custom_gradient
    def gate(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)

        def backward(upstream):
            slope = tape.gradient(y, x, output_gradients=tf.nn.relu(upstream))
            return tf.where(x > 0, slope, tf.zeros_like(slope))

        return y, backward

    return gate


def maps_and_slopes(model, ends, tasks, images, task_name, class_indices, layer=None, batch_size=None):
    """Return a layer's feature maps, and how much a class's logit rises with every value of them.

    Args:
        model, ends, tasks, images, task_name, class_indices, layer, batch_size: As for `grad_cams`.

    Returns:
        Two float32 arrays `(n, height, width, channels)`.
    """
    logits, end = logits_tensor(model, tasks, task_name), feature_map(model, ends, layer)
    images, classes = as_batch(images, model), np.asarray(class_indices, np.int64)
    both = keras.Model(model.inputs[0], [end, logits])

    def compute(batch, of_batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            maps, scores = both(batch, training=False)
            chosen = tf.gather(scores, of_batch, batch_dims=1)
        return maps, tape.gradient(chosen, maps, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    found = _in_batches(compute, images, classes, batch_size)
    if not len(images):
        return (np.zeros((0, *end.shape[1:]), np.float32),) * 2
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _in_batches(compute, images, classes, batch_size):
    """Return what a function of images and classes gives, batch for batch, as lists of float32 arrays.

    It becomes one graph for all batch sizes: some layers would be compiled anew at every call else.
    """
    side = max(images.shape[1:3])
    batch_size = batch_size or max(1, min(BATCH_SIZE, BATCH_PIXELS // side**2))
    signature = [tf.TensorSpec((None, *images.shape[1:]), tf.float32), tf.TensorSpec((None,), tf.int64)]
    compute = tf.function(compute, input_signature=signature, autograph=False, jit_compile=False)
    starts = range(0, len(images), batch_size)
    results = [compute(images[at : at + batch_size], classes[at : at + batch_size]) for at in starts]
    return [[tf.cast(values, tf.float32).numpy() for values in result] for result in results]


def unit(values):
    """Return a map scaled to a largest value of 1; zeros stay zeros."""
    highest = values.max()
    return (values / highest if highest > 0 else np.zeros_like(values)).astype(np.float32)
