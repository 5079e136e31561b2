"""Views: what the network sees of an image, in training and in evaluation (at test time: `tlkit.data.tta`).

A training view is a pure function of (seed, epoch, index): `training_view(policy, size)(image, view_seed(...))`. This
is the only module that knows albumentations; policies are in `tlkit.data.policies`, ops of our own in
`tlkit.data.op_table`.
"""

import inspect
import os
import threading

import numpy as np

from tlkit.data.op_bounds import MOST_OPS, check_bounds
from tlkit.data.op_table import OWN_OPS
from tlkit.data.policies import PADDING, POLICIES
from tlkit.data.resize import resize
from tlkit.errors import RecipeError, did_you_mean, shown

VIEWS = 2  # raise it when the same image and settings give another view
FITS = ("crop", "squash", "letterbox")
CROP = 0.875  # side of the square that is kept, as a share of the shorter side


def view_seed(seed, epoch, index):
    """Return the seed of one view, a whole number below 2**63 that (seed, epoch, index) alone decide."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> 1)


def training_view(policy, image_size, fit="crop"):
    """Make the function that renders training views.

    With `fit="crop"` a policy that begins with a random crop takes it from the whole image; in all other cases the
    evaluation view comes first, so that training sees the geometry that evaluation will.

    Args:
        policy: Name in `POLICIES`, or a list of dicts: `op` names a transform of albumentations 2.0.8 or one of
            `OWN_OPS`, the other keys are its arguments; a missing `size` is `(image_size, image_size)`.
        image_size: Side of the view in pixels.
        fit: `"crop"`, `"squash"` or `"letterbox"`.

    Returns:
        Function of `(image, seed)`: uint8 RGB `(height, width, 3)` and a whole number to uint8 RGB
        `(image_size, image_size, 3)`. Equal arguments give equal views in any thread.

    Raises:
        RecipeError: If the policy names an unknown op or argument, or a value that the op refuses.

    Example:
        >>> view = training_view([{"op": "HorizontalFlip", "p": 0.5}], 224)
        >>> view(image, view_seed(seed=0, epoch=3, index=17)).shape
        (224, 224, 3)
    """
    _check_fit(fit)
    ops = _named(policy)
    for position, op in enumerate(ops):
        _try_op(position, op, image_size)
    crops_itself = fit == "crop" and ops and _crops(ops[0])
    pipelines = threading.local()  # a pipeline carries its generator, so threads can't share one

    def view(image, seed):
        if not crops_itself:
            image = evaluation_view(image, image_size, fit)
        if not ops:
            return image
        if not hasattr(pipelines, "own"):
            pipelines.own = [_make_part(position, op, image_size) for position, op in enumerate(ops)]
        for position, part in enumerate(pipelines.own):
            image = part(image, view_seed(seed, position, 0) if position else seed)
        if image.shape[:2] != (image_size, image_size):  # an op that changes the size, such as a crop
            image = resize(image, image_size, image_size)
        return np.ascontiguousarray(image)

    return view


def evaluation_view(image, image_size, fit="crop"):
    """Render the one view that evaluation and prediction use.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        image_size: Side of the view in pixels.
        fit: `"crop"` keeps the middle square, 0.875 of the shorter side (as if the shorter side were resized to
            `image_size / 0.875` and the centre cut out); `"squash"` resizes both sides; `"letterbox"` keeps the whole
            image and its aspect and pads with grey 127.

    Returns:
        uint8 RGB `(image_size, image_size, 3)`.
    """
    _check_fit(fit)
    height, width = image.shape[:2]
    if fit == "squash":
        return resize(image, image_size, image_size)
    if fit == "crop":
        side = max(1, round(CROP * min(height, width)))
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], image_size, image_size)
    scale = image_size / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (image_size - height) // 2, (image_size - width) // 2
    view = np.full((image_size, image_size, 3), PADDING, np.uint8)
    view[top : top + height, left : left + width] = resize(image, width, height)
    return view


def _check_fit(fit):
    if fit not in FITS:
        raise RecipeError(f"`fit` must be one of {', '.join(FITS)}. Received: {shown(fit)}.{did_you_mean(fit, FITS)}")


def _albumentations():
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would call home
    import albumentations  # takes a second, and prediction needs none of it

    return albumentations


def _named(policy):
    if isinstance(policy, str):
        if policy not in POLICIES:
            known, hint = ", ".join(POLICIES), did_you_mean(policy, POLICIES)
            raise RecipeError(f"`augment` must be {known} or a list of ops. Received: {shown(policy)}.{hint}")
        return POLICIES[policy]
    if len(policy) > MOST_OPS:
        raise RecipeError(f"`augment` may have at most {MOST_OPS} ops. Received: {len(policy)}")
    for position, op in enumerate(policy):
        if not isinstance(op, dict) or not isinstance(op.get("op"), str):
            raise RecipeError(f"`augment.{position}` must be a table with the key `op`. Received: {shown(op)}")
    return list(policy)


def _crops(op):
    """Tell whether an op is a random crop of the whole image, so that none needs to be made before."""
    return op["op"] == "RandomSquare" or (op["op"] == "RandomResizedCrop" and op.get("p", 1.0) == 1.0)


def _make_part(position, op, image_size):
    """Return the function of `(image, seed)` that applies one op.

    Each op gets a seed of its own. In albumentations' own pipelines (2.0.8) all ops start from the same one, and with
    it from the same first draw: what flips would always rotate, too, and be cropped closely.
    """
    made = _make_op(position, op, image_size)
    if op["op"] in OWN_OPS:
        return lambda image, seed: made(image, np.random.default_rng(seed))

    def apply(image, seed):
        made.set_random_seed(seed)
        try:
            return made(image=image)["image"]
        except MemoryError:
            raise
        except Exception as error:  # whatever an op raises for a draw, or for an image, that it can't take
            raise RecipeError(
                f"`augment.{position}`: {op['op']} fails on an image: {_reason(error)}. Leave it out, or change it."
            ) from None

    return apply


def _make_op(position, op, image_size):
    """Build one op, refusing unknown names and arguments, which albumentations would only warn of."""
    where, name = f"`augment.{position}`", op["op"]
    if name in OWN_OPS:
        maker, always = OWN_OPS[name], {}
        arguments = list(inspect.signature(maker).parameters)
    else:
        known = _known_ops(_albumentations())
        if name not in known:
            raise RecipeError(f"{where}: unknown op {shown(name)}.{did_you_mean(name, [*known, *OWN_OPS])}")
        maker, always = known[name], {"strict": True}
        arguments = list(inspect.signature(maker.__init__).parameters)[1:]
    settings = {setting: _tuples(value) for setting, value in op.items() if setting != "op"}
    check_bounds(f"{where}: {name}", settings)
    for setting in settings:
        if setting not in arguments:
            hint = did_you_mean(setting, arguments)
            taken = ", ".join(arguments) or "no settings"
            raise RecipeError(f"{where}: {name} takes {taken}. Received: {shown(setting)}.{hint}")
    defaults = {"size": (image_size, image_size), "image_size": image_size, "area_for_downscale": "image"}
    settings = {setting: value for setting, value in defaults.items() if setting in arguments} | settings
    try:
        return maker(**settings, **always)
    except Exception as error:  # whatever an op raises for a value that it can't take
        raise RecipeError(f"{where}: {name}: {_reason(error)}") from None


def _try_op(position, op, image_size):
    """Refuse an op that can't turn a uint8 image into another, such as one that needs masks or makes floats."""
    made, image = _make_op(position, op, image_size), np.full((image_size, image_size, 3), PADDING, np.uint8)
    try:
        if op["op"] in OWN_OPS:
            result = made(image, np.random.default_rng(0))
        else:
            made.p = 1.0
            result = made(image=image)["image"]
    except Exception as error:  # whatever an op raises for want of what it needs
        raise RecipeError(f"`augment.{position}`: {op['op']} can't be used on images alone: {_reason(error)}") from None
    if getattr(result, "dtype", None) != np.uint8 or result.ndim != 3 or result.shape[2] != 3:
        raise RecipeError(f"`augment.{position}`: {op['op']} doesn't return uint8 RGB images; scaling is in the model")


def _known_ops(library):
    kinds = (library.ImageOnlyTransform, library.DualTransform)
    members = {name: getattr(library, name) for name in dir(library)}
    return {
        name: member
        for name, member in members.items()
        if inspect.isclass(member) and issubclass(member, kinds) and member not in kinds
    }


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _reason(error):
    """Return one line for what a transform complains about; where pydantic is the cause, its first complaint."""
    if hasattr(error.__cause__, "errors"):
        first = error.__cause__.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}. Received: {shown(first['input'])}"
    return " ".join(str(error).split())
