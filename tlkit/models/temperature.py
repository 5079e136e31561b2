"""A temperature as part of a model: what divides the logits before they become probabilities."""

import keras
from keras import layers

from tlkit.models.assemble import logits_of, output_layer


def fold_temperatures(model, tasks, temperatures):
    """Divide a model's logits by a temperature for each task, so that it gives the scaled probabilities by itself.

    Where the logits come from a dense layer that does nothing else, its kernel and bias are divided, and the graph
    stays as it is. Elsewhere a `Rescaling` layer is put between the logits and what turns them into probabilities.

    Args:
        model: `keras.Model` that `tlkit.models.assemble.assemble` made, or one of that form. Its dense layers are
            changed in place.
        tasks: Dict of task name to `Task`.
        temperatures: Dict of task name to a temperature above 0; tasks that it lacks stay as they are.

    Returns:
        The same model, or a new `keras.Model` of the same layers where a `Rescaling` was needed.
    """
    logits, between = logits_of(model, tasks), {}
    for name, temperature in temperatures.items():
        dense = _own_dense(model, name)
        if dense is None:
            between[name] = 1 / temperature
            continue
        for variable in (dense.kernel, dense.bias) if dense.use_bias else (dense.kernel,):
            variable.assign(variable / temperature)
    if not between:
        return model
    taken = {operation.name for operation in model.operations}
    outputs = {}
    for name, task in tasks.items():
        outputs[name] = model.get_layer(name).output
        if name in between:
            rescaling = layers.Rescaling(between[name], name=_free_name(f"{name}_temperature", taken))
            outputs[name] = output_layer(name, task)(rescaling(logits[name]))
    return keras.Model(model.inputs[0], outputs if len(tasks) > 1 else next(iter(outputs.values())), name=model.name)


def _own_dense(model, name):
    """Return the dense layer that a task's logits come straight from, or None if it serves anything else, too."""
    described = {layer["name"]: layer for layer in model.get_config()["layers"]}
    (source,) = _sources(described[name])
    dense = next(operation for operation in model.operations if operation.name == source)
    if not isinstance(dense, layers.Dense) or dense.activation is not keras.activations.linear:
        return None
    uses = [used for layer in described.values() for used in _sources(layer)].count(source)
    own = set(map(id, dense.variables))
    sharing = [layer for layer in model.layers if own & set(map(id, layer.variables))]
    alone = uses == len(sharing) == len(described[source]["inbound_nodes"]) == 1
    return dense if alone else None


def _sources(described):
    """Return the names of the layers whose outputs an entry of a model's config takes, each time that it does."""
    found, waiting = [], [described["inbound_nodes"]]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append(value["config"]["keras_history"][0])
        elif isinstance(value, dict | list | tuple):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def _free_name(name, taken):
    while name in taken:
        name += "_"
    return name
