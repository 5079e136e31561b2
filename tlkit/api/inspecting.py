"""What a net consists of, layer by layer."""

from pathlib import Path

from tlkit import run as run_folder
from tlkit.catalog import BUILDABLE
from tlkit.errors import TlkitError, did_you_mean


def inspect(what, *, image_size=None):
    """Return the layers of a net with shapes, memory, parameters, operations and receptive fields.

    Args:
        what: One of `tlkit nets` or `tlkit backbones`, which is built with its original top and random weights; the
            folder of a run; or a functional `keras.Model`.
        image_size: Side in pixels, of a net or a backbone; by default its own.

    Returns:
        `tlkit.models.layer_table.LayerTable`, with every layer; its `folded()` is the short form.

    Raises:
        TlkitError: If there is no such net or run, or its graph can't be read.

    Example:
        >>> inspect("lenet5").parameters
        61706
    """
    if isinstance(what, (str, Path)):
        find_inspected(what, image_size)
    elif image_size is not None:
        raise TlkitError("inspect: `image_size` is for a net or a backbone. A model has its own.")
    from tlkit.models.layer_table import layer_table

    return layer_table(_model(what, image_size))


def find_inspected(what, image_size=None):
    """Check, before TensorFlow loads, that `what` names something to inspect at that size.

    Raises:
        TlkitError: In one line, if it doesn't.
    """
    if what in BUILDABLE:
        smallest = BUILDABLE[what].smallest_image
        if image_size is not None and image_size < smallest:
            raise TlkitError(f"--image-size: must be at least {smallest} for {what}. Received: {image_size}.")
        return
    if not Path(what).exists():
        raise TlkitError(
            f"{what}: no such net, backbone or run folder.{did_you_mean(what, BUILDABLE)} `tlkit nets` and "
            "`tlkit backbones` list what there is."
        )
    run_folder.find_complete_run(what)
    if image_size is not None:
        raise TlkitError(f"--image-size: {what} is a run; its model has its own. Leave it out.")


def _model(what, image_size):
    from tlkit.models.backbones import build_classifier
    from tlkit.models.reader import read_model

    if not isinstance(what, (str, Path)):
        return what
    return build_classifier(what, image_size=image_size) if what in BUILDABLE else read_model(_file(what))


def _file(run):
    return Path(run) / run_folder.MODEL
