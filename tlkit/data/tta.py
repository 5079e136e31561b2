"""Test-time views: renderings of an image besides the evaluation view, whose predictions are averaged.

Each is a pure function of the image as it is read, the size and the fit, so that one reading serves all of them.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from tlkit.data.augment import CROP, evaluation_view
from tlkit.data.policies import PADDING, REFLECT, STRONG_ROTATION, oriented_kind
from tlkit.errors import RecipeError, did_you_mean, shown
from tlkit.toml import read_toml

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
CROPS = ("centre", *CORNERS)
SCALES = 0.25, 2.0  # what is read for the evaluation view has a pixel for each one shown, up to twice its size
ANGLES = -180.0, 180.0
MOST_VIEWS = 100


@dataclass(frozen=True)
class Rendering:
    """One test-time view: what is cut out of an image, and how it is turned.

    Attributes:
        scale: How large things appear compared to the evaluation view, in [0.25, 2]; where less than the evaluation
            view needs more than the image has, the rest is grey 127.
        crop: `"centre"`, or a corner such as `"top_left"`. With `fit="crop"` corners are those of the middle square;
            with the other fits those of the image, of which a corner shows 0.875 of each side at scale 1.
        mirror: Whether left and right are exchanged.
        angle: Degrees, counterclockwise, in [-180, 180], by which the view is turned after that. What a turn by less
            than 90 degrees misses in the corners is reflected.
    """

    scale: float = 1.0
    crop: str = "centre"
    mirror: bool = False
    angle: float = 0.0

    def render(self, image, image_size, fit="crop"):
        """Render the view.

        Args:
            image: uint8 RGB `(height, width, 3)`, as it is read for `evaluation_view`.
            image_size: Side of the view in pixels.
            fit: `"crop"`, `"squash"` or `"letterbox"`.

        Returns:
            uint8 RGB `(image_size, image_size, 3)`.
        """
        if self.scale == 1 and self.crop == "centre":
            view = evaluation_view(image, image_size, fit)
        else:
            part = _cut(image, *self._window(*image.shape[:2], fit))
            view = evaluation_view(part, image_size, "letterbox" if fit == "letterbox" else "squash")
        if self.mirror:
            view = view[:, ::-1]
        return _turn(np.ascontiguousarray(view), self.angle)

    def _window(self, height, width, fit):
        """Return `((first row, rows), (first column, columns))` of what is shown; it may exceed the image."""
        shorter = min(height, width)
        share = CROP if fit == "crop" or self.crop != "centre" else 1.0
        down, right = ("bottom" in self.crop, "right" in self.crop)
        return tuple(
            self._extent(side, shorter if fit == "crop" else side, share, far)
            for side, far in ((height, down), (width, right))
        )

    def _extent(self, side, frame, share, far):
        length = max(1, round(share * frame / self.scale))
        if self.crop == "centre":
            return (side - length) // 2, length
        return (side - frame) // 2 + (frame - length if far else 0), length


def _cut(image, rows, columns):
    """Cut `(first, count)` rows and columns out of an image; what lies outside of it is grey."""
    (top, height), (left, width) = rows, columns
    inside = image[max(0, top) : top + height, max(0, left) : left + width]
    if inside.shape[:2] == (height, width):
        return inside
    part = np.full((height, width, 3), PADDING, np.uint8)
    top, left = max(0, -top), max(0, -left)
    part[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return part


def _turn(view, angle):
    """Turn a square view about its middle, counterclockwise."""
    if angle % 90 == 0:
        return np.ascontiguousarray(np.rot90(view, round(angle / 90) % 4)) if angle else view
    middle = (len(view) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, 1.0)
    return cv2.warpAffine(view, matrix, view.shape[:2], flags=cv2.INTER_LINEAR, borderMode=REFLECT)


EVALUATION = Rendering()


def _mirrored(views):
    return tuple(replace(view, mirror=True) for view in views)


_FIVE = (EVALUATION, *(Rendering(crop=corner) for corner in CORNERS))
_RIGHT_ANGLES = tuple(Rendering(angle=float(angle)) for angle in (0, 90, 180, -90))

# The evaluation view comes first. What the views of a set predict is averaged.
TEST_TIME_VIEWS = {
    "none": (EVALUATION,),
    "flip": (EVALUATION, Rendering(mirror=True)),
    # Krizhevsky, Sutskever & Hinton 2012, section 4.1: four corners and the centre, and their mirror images.
    "fivecrop": _FIVE,
    "tencrop": (*_FIVE, *_mirrored(_FIVE)),
    # Several sizes of the object: those of a shorter side of 224, 256 and 288 for a view of 224 pixels, among those of
    # Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556, section 3.2.
    "multiscale": (EVALUATION, Rendering(scale=0.875), Rendering(scale=1.125)),
    # A camera held askew.
    "rotations": (EVALUATION, *(Rendering(angle=angle) for angle in (-10.0, -5.0, 5.0, 10.0))),
    # For images that have no top: the eight symmetries of the square.
    "dihedral": (*_RIGHT_ANGLES, *_mirrored(_RIGHT_ANGLES)),
}


def find_views(tta):
    """Return test-time views by name, or from a TOML file with a table `[[views]]` for each.

    Args:
        tta: Name in `TEST_TIME_VIEWS`, or path of a file.

    Returns:
        Tuple of `Rendering`.

    Raises:
        RecipeError: If there is no such set, or the file is not one.

    Example:
        A file of two views, the second larger, mirrored and leaning by five degrees:

            [[views]]

            [[views]]
            scale = 1.25
            mirror = true
            angle = 5
    """
    path, tta = Path(tta), str(tta)
    if path.suffix == ".toml" or path.parent != Path():
        return _read_views(path)
    if tta not in TEST_TIME_VIEWS:
        known = ", ".join(TEST_TIME_VIEWS)
        hint = did_you_mean(tta, [*TEST_TIME_VIEWS, "auto"])
        raise RecipeError(f"tta: expected one of {known}, or a TOML file of views. Received: {shown(tta)}.{hint}")
    return TEST_TIME_VIEWS[tta]


def _read_views(path):
    try:
        values = read_toml(path)
    except (OSError, ValueError) as error:  # also for a name that no file can have
        known = ", ".join(TEST_TIME_VIEWS)
        reason = getattr(error, "strerror", None) or "it can't be read"
        raise RecipeError(f"tta {path}: {reason}. Give a TOML file of views, or one of: {known}") from None
    for key in values:
        if key != "views":
            hint = did_you_mean(key, ["views"]) or " Known here: views."
            raise RecipeError(f"{path}: unknown key `{key}`.{hint}")
    tables = values.get("views")
    if not isinstance(tables, list) or not tables:
        raise RecipeError(f"{path}: expected at least one table [[views]]. Received: {shown(tables)}")
    if len(tables) > MOST_VIEWS:
        raise RecipeError(f"{path}: expected at most {MOST_VIEWS} tables [[views]]. Received: {len(tables)}")
    return tuple(_read_view(table, f"{path}: `views.{number}") for number, table in enumerate(tables))


def _read_view(table, where):
    if not isinstance(table, dict):
        raise RecipeError(f"{where}` must be a table. Received: {shown(table)}")
    known = [field.name for field in fields(Rendering)]
    for key, value in table.items():
        if key not in known:
            hint = did_you_mean(key, known) or f" Known here: {', '.join(known)}."
            raise RecipeError(f"{where}`: unknown key `{key}`.{hint}")
        expected = _problem(key, value)
        if expected:
            hint = did_you_mean(value, CROPS) if key == "crop" else ""
            raise RecipeError(f"{where}.{key}`: expected {expected}. Received: {shown(value)}.{hint}")
    return Rendering(**{key: float(value) if key in _RANGES else value for key, value in table.items()})


_RANGES = {"scale": SCALES, "angle": ANGLES}


def _problem(key, value):
    """Say what is expected of a key, if its value is something else."""
    if key == "mirror":
        return None if isinstance(value, bool) else "true or false"
    if key == "crop":
        return None if value in CROPS else f"one of {', '.join(CROPS)}"
    low, high = _RANGES[key]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return None if number and low <= value <= high else f"a number from {low:g} to {high:g}"


def views_risk(tta, task):
    """Say whether test-time views are likely to hurt a task: they turn what its labels depend on, or cut it away.

    What is said of turned images rests on the classes' names alone, as for `tlkit.data.policies.orientation_risk`.

    Args:
        tta: Name of a set or path of a file, as for `find_views`.
        task: The `Task`.

    Returns:
        One sentence for the user, or None where there is nothing to fear.
    """
    views = find_views(tta)
    kind, turns = oriented_kind(task.classes), _turns(views)
    if turns and kind:
        return (
            f"the test-time views {str(tta)!r} {' and '.join(turns)}, and the classes look like {kind}: where "
            "orientation carries the label, that asks for the label of another image"
        )
    if task.kind != "single_label" and any(view.scale > 1 or view.crop != "centre" for view in views):
        return (
            f"the test-time views {str(tta)!r} cut off the margins, and labels of kind {task.kind} are of the whole "
            "image: what is counted or looked for may be lost"
        )
    return None


def _turns(views):
    """Say in words how views turn an image, if they do."""
    turns = []
    if any(view.mirror for view in views):
        turns.append("mirror it")
    degrees = max(abs(view.angle) for view in views)
    if degrees > STRONG_ROTATION:
        turns.append(f"turn it by up to {degrees:g} degrees")
    return turns
