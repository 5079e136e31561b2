"""A sheet of views: what the network sees of some images, in evaluation and in training."""

import unicodedata
from collections import Counter

import cv2
import numpy as np

from tlkit.data.pipeline import Views
from tlkit.data.policies import POLICIES
from tlkit.data.resize import resize

ROWS, TRAINING_VIEWS = 6, 7
SMALLEST_CELL, LARGEST_CELL = 96, 256  # pixels; smaller views are enlarged, larger ones shrunk, to be seen at a glance
GAP, LINE = 4, 24  # pixels
PAPER, INK, GREY = (255, 255, 255), (0, 0, 0), (90, 90, 90)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def preview_sheet(data, *, augment, image_size, fit="crop", seed=0):
    """Draw views of a few training images: the evaluation view first, then the first training views of a run.

    Args:
        data: `Data`.
        augment: Name of a policy, or a list of ops.
        image_size: Side of the views in pixels.
        fit: `"crop"`, `"squash"` or `"letterbox"`.
        seed: Whole number, at least 0, that chooses the images, of different classes where there are any, and decides
            the views: they are those of a run with that seed.

    Returns:
        uint8 RGB `(height, width, 3)`.
    """
    views = Views(data, image_size=image_size, fit=fit, augment=augment, seed=seed)
    columns = [("evaluation", views.evaluation())]
    columns += [(f"training view {number}", views.training(number)) for number in range(TRAINING_VIEWS)]
    side = _cell_side(image_size)
    width = len(columns) * (side + GAP) + GAP
    parts = [_line(_title(augment, image_size, fit, seed), width), _header([name for name, _ in columns], side, width)]
    for i in _choose(data, seed):
        row = np.full((side + GAP, width, 3), PAPER, np.uint8)
        for column, (_, view) in enumerate(columns):
            left = GAP + column * (side + GAP)
            row[:side, left : left + side] = _cell(view.render(i), side)
        parts += [_line(f"{_labels(data, i)}   ({data.paths[i]})", width), row]
    return np.concatenate(parts)


def encode_png(sheet):
    """Return a uint8 RGB image as the bytes of a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()


def _choose(data, seed):
    """Return a few training images, of as many classes of the first single-label task as there is room for."""
    order = np.random.default_rng(seed).permutation(data.indices("train"))
    name = next((name for name, task in data.tasks.items() if task.kind == "single_label"), None)
    if name is None:
        return [int(i) for i in order[:ROWS]]
    labels, seen, ranks = data.labels[name][order], Counter(), []
    for label in labels.tolist():
        ranks.append(seen[label] if label >= 0 else len(order))  # a missing label comes last
        seen[label] += 1
    chosen = order[np.argsort(ranks, kind="stable")][:ROWS]
    return [int(i) for i in chosen[np.argsort(data.labels[name][chosen], kind="stable")]]


def _labels(data, i):
    """Return an image's labels in words."""
    words = {name: _label(task, data.labels[name][i]) for name, task in data.tasks.items()}
    return ", ".join(word if name == "label" else f"{name}: {word}" for name, word in words.items())


def _label(task, value):
    if task.kind == "regression":
        return "unlabelled" if np.isnan(value) else f"{value:g}"
    if task.kind == "single_label":
        return "unlabelled" if value < 0 else task.classes[value]
    if (value < 0).any():
        return "unlabelled"
    return " + ".join(np.array(task.classes)[value > 0].tolist()) or "none"


def _title(augment, image_size, fit, seed):
    ops = POLICIES[augment] if isinstance(augment, str) else augment
    name = augment if isinstance(augment, str) else "own policy"
    what = ", ".join(op["op"] for op in ops) or "no change"
    return f"{name} ({what}); {image_size} x {image_size} pixels; fit {fit}; seed {seed}"


def _cell_side(image_size):
    if image_size > LARGEST_CELL:
        return LARGEST_CELL
    return image_size * -(-SMALLEST_CELL // image_size)  # a whole multiple, so that pixels stay square


def _cell(image, side):
    if len(image) < side:
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
    return resize(image, side, side)


def _header(names, side, width):
    strip = np.full((LINE, width, 3), PAPER, np.uint8)
    for column, name in enumerate(names):
        _write(strip, name, GAP + column * (side + GAP), side, GREY, 0.4)
    return strip


def _line(text, width):
    strip = np.full((LINE, width, 3), PAPER, np.uint8)
    _write(strip, text, GAP, width - 2 * GAP, INK, 0.5)
    return strip


def _write(strip, text, left, room, colour, scale):
    """Write text on a strip; what doesn't fit into `room` pixels is left out, and the end says so."""
    text = _plain(text)
    shown = text
    while shown and cv2.getTextSize(shown, FONT, scale, 1)[0][0] > room:
        text = text[:-1]
        shown = f"{text}..."
    cv2.putText(strip, shown, (left, LINE - 8), FONT, scale, colour, 1, cv2.LINE_AA)


def _plain(text):
    """Return text in the only letters that OpenCV's drawn font has: without accents, and `?` for other scripts."""
    without = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return without.encode("ascii", "replace").decode()
