"""Augmentation policies as plain data, and whether one of them turns what the labels depend on.

Imports nothing: a policy can stand in a recipe, and `tlkit.data.augment` makes views of it.
"""

import re

PADDING = 127  # grey, near zero after scaling
REFLECT = 4  # cv2.BORDER_REFLECT_101: no black corners to learn from

_CROP = {"op": "RandomResizedCrop", "scale": [0.6, 1.0]}
_MIRROR = {"op": "HorizontalFlip", "p": 0.5}

# Sizes are filled in by `training_view`. Order matters: geometry first, so that colours are changed on few pixels.
POLICIES = {
    "none": [],
    # For most data: where the object is and how large, nothing about its looks.
    "light": [_CROP, _MIRROR],
    # Where labels are of the whole image, and a crop would change them: a count, what is somewhere in it.
    "mirror": [_MIRROR],
    # A camera held askew and another light.
    "medium": [
        {"op": "RandomResizedCrop", "scale": [0.4, 1.0]},
        _MIRROR,
        {"op": "Affine", "rotate": [-10, 10], "translate_percent": [-0.05, 0.05], "border_mode": REFLECT, "p": 0.5},
        {"op": "ColorJitter", "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02, "p": 0.8},
    ],
    # For long training of many layers: parts of the object must do, colour and sharpness may go.
    "heavy": [
        {"op": "RandomResizedCrop", "scale": [0.25, 1.0]},
        _MIRROR,
        {"op": "Affine", "rotate": [-20, 20], "shear": [-8, 8], "border_mode": REFLECT, "p": 0.5},
        {"op": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.05, "p": 0.8},
        {"op": "ToGray", "p": 0.1},
        {"op": "GaussianBlur", "sigma_limit": [0.5, 2.0], "p": 0.1},
        {"op": "Erasing", "scale": [0.02, 0.2], "fill": PADDING, "p": 0.5},
    ],
    # Krizhevsky, Sutskever & Hinton 2012, section 4.1: the shorter side to 256, of the middle 256 x 256 a random
    # 224 x 224 (0.875), its mirror image, PCA colour noise.
    "alexnet": [{"op": "RandomSquare", "share": 0.875}, _MIRROR, {"op": "PCANoise", "std": 0.1}],
    # Cubuk et al. 2019, https://arxiv.org/abs/1909.13719, and Müller & Hutter 2021, https://arxiv.org/abs/2103.10158;
    # both after a crop and a flip, as there.
    "randaugment": [_CROP, _MIRROR, {"op": "RandAugment", "num_ops": 2, "magnitude": 9}],
    "trivialaugment": [_CROP, _MIRROR, {"op": "TrivialAugment"}],
    # For images that have no top, such as those from a microscope or a satellite: light, in all eight orientations.
    "dihedral": [_CROP, {"op": "D4", "p": 1.0}],
    # One thing at a time, to find out what helps.
    "flips": [{"op": "Flips", "horizontal": 0.5, "vertical": 0.5}],
    "rotations": [{"op": "Affine", "rotate": [-30, 30], "border_mode": REFLECT, "p": 1.0}],
    "scaling": [{"op": "Affine", "scale": [0.75, 1.25], "keep_ratio": True, "border_mode": REFLECT, "p": 1.0}],
    "colour": [{"op": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.05, "p": 1.0}],
    # Zhong et al. 2017, https://arxiv.org/abs/1708.04896, section 4.2.
    "erasing": [{"op": "Erasing", "scale": [0.02, 0.4], "ratio": [0.3, 3.33], "fill": PADDING, "p": 0.5}],
}

STRONG_ROTATION = 20  # degrees; handwriting leans by less

_UPRIGHT = "scaling"  # what to advise: neither flips nor rotates
_MIRRORING = {"HorizontalFlip", "Transpose", "D4", "SquareSymmetry"}
_UPENDING = {"VerticalFlip", "Transpose", "D4", "SquareSymmetry"}
# Op to its setting in degrees and the setting's default.
_ROTATING = {
    "Affine": ("rotate", 0),
    "Rotate": ("limit", 90),
    "SafeRotate": ("limit", 90),
    "ShiftScaleRotate": ("rotate_limit", 45),
}

_NUMERALS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
_OPPOSITES = (
    ("left", "right"),
    ("up", "down"),
    ("upward", "downward"),
    ("upwards", "downwards"),
    ("top", "bottom"),
    ("north", "south"),
    ("east", "west"),
    ("clockwise", "counterclockwise"),
    ("clockwise", "anticlockwise"),
    ("upright", "inverted"),
)
_SPEAK_OF_SIGNS = {"arrow", "arrows", "letter", "letters", "digit", "digits", "text", "handwriting", "handwritten"}


def orientation_risk(policy, class_names):
    """Say whether a policy turns images whose labels their orientation seems to carry: a 6 into a 9, a b into a d.

    The rule looks at names only. Classes are taken for oriented ones if all of them are digits, numbers below 100,
    single letters or spelled digits; if two of them are opposite directions (left and right, up and down, ...); or if
    one speaks of arrows, letters, digits or text.

    Args:
        policy: Name in `POLICIES`, or a list of ops.
        class_names: The classes' names.

    Returns:
        One sentence for the user, or None where there is nothing to fear.
    """
    turns = _turns(POLICIES[policy] if isinstance(policy, str) else policy)
    kind = oriented_kind(class_names)
    if not turns or not kind:
        return None
    name = repr(policy) if isinstance(policy, str) else "list of ops"
    return (
        f"the augment policy {name} {' and '.join(turns)}, and the classes look like {kind}: where orientation carries "
        f"the label, that teaches wrong ones; a policy that keeps images upright is {_UPRIGHT!r}"
    )


def _turns(ops):
    """Say in words how the ops turn an image, if they do."""
    ops = [op for op in ops if float(op.get("p", 0.5)) > 0]  # albumentations takes numbers as texts, too
    names, turns = {op["op"] for op in ops}, []
    if names & _MIRRORING or any(op["op"] == "Flips" and op.get("horizontal", 0.5) > 0 for op in ops):
        turns.append("flips horizontally")
    if names & _UPENDING or any(op["op"] == "Flips" and op.get("vertical", 0.5) > 0 for op in ops):
        turns.append("flips vertically")
    degrees = max((_degrees(op) for op in ops), default=0)
    if degrees > STRONG_ROTATION:
        turns.append(f"rotates by up to {degrees:g} degrees")
    return turns


def _degrees(op):
    """Return by how many degrees an op may rotate."""
    if op["op"] in ("RandomRotate90", "Transpose", "D4", "SquareSymmetry"):
        return 90 if op["op"] in ("RandomRotate90", "Transpose") else 180
    if op["op"] == "RandAugment":
        return op.get("magnitude", 9)  # 30 is both its largest magnitude and its largest rotation
    if op["op"] == "TrivialAugment":
        return 135
    if op["op"] not in _ROTATING:
        return 0
    setting, default = _ROTATING[op["op"]]
    limit = op.get(setting, default)
    return max(abs(float(bound)) for bound in (limit if isinstance(limit, list | tuple) else [limit]))


def upends(policy):
    """Tell whether a policy (a name, or a list of ops) shows images upside down, as for data that have no top."""
    return "flips vertically" in _turns(POLICIES.get(policy, []) if isinstance(policy, str) else policy)


def oriented_kind(class_names):
    """Say in words what the classes seem to be, such as digits, if their orientation matters; else None."""
    names = [str(name).strip().lower() for name in class_names]
    words = {word for name in names for word in re.findall(r"[a-z]+", name)}
    if names and all(name in _NUMERALS or re.fullmatch(r"\d\d?", name) for name in names):
        return "digits"
    if names and all(re.fullmatch(r"\d|[^\W\d_]", name) for name in names):
        return "letters"
    for one, other in _OPPOSITES:
        if one in words and other in words:
            return f"directions ({one}, {other})"
    spoken = sorted(words & _SPEAK_OF_SIGNS)
    return f"signs or text ({spoken[0]})" if spoken else None
