"""The same network for another image size."""

import keras

from tlkit.errors import TlkitError


def resized(model, image_size):
    """Build a model anew for another image size, with weights of its own that begin equal.

    Args:
        model: `keras.Model` that `tlkit.models.assemble.assemble` made, or one of that form.
        image_size: Side in pixels.

    Returns:
        `keras.Model` with the same layers and names.

    Raises:
        TlkitError: If the network's weights depend on the size, or it is too small for it.
    """
    config = model.get_config()
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"] = (None, image_size, image_size, model.input_shape[-1])
    try:
        other = keras.Model.from_config(config)
        other.set_weights(model.get_weights())
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise TlkitError(f"{model.name} can't be built for {image_size} pixels: {reason}") from None
    return other
