"""The explanations as figures, drawn without a display; colours that everybody can tell apart."""

import textwrap
import warnings

import numpy as np
from cv2 import GaussianBlur
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlkit.evaluation.explain.filters import tile

INK, ACCENT, PALE = "#1a1a1a", "#1f5fa8", "#9db8d6"
DPI = 110
CAPTIONS = {
    "grad_cam": "Grad-CAM\nwhere features speak for it",
    "occlusion": "Occlusion (red)\nhiding costs up to {:.2g} {}",
    "gradient": "Gradient\npixels that the score depends on",
    "guided": "Guided backpropagation\ndetails that features respond to",
    "guided_grad_cam": "Guided Grad-CAM\ntheir product",
}


def draw_maps(view, maps, title, unit="log odds"):
    """Draw an image and its maps.

    Args:
        view: uint8 RGB `(size, size, 3)`.
        maps: Dict of a name in `CAPTIONS` to float `(size, size)`: occlusion signed, the others at least 0.
        title: What is explained.
        unit: Of occlusion.

    Returns:
        `matplotlib.figure.Figure`.
    """
    panels = [("image\nas the net sees it", view)]
    panels += [
        (CAPTIONS[name].format(max(values.max(), 0), unit), _over(view, values, name)) for name, values in maps.items()
    ]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.2 * columns, 3.6 * rows + 0.4, title)
    for axes, (caption, picture) in _panels(figure.subplots(rows, columns, squeeze=False), panels):
        axes.imshow(picture)
        axes.set_title(caption, fontsize=10)
    return figure


def draw_neighbours(view, caption, bars, known, neighbours, title):
    """Draw what an image is taken for, and the training images that are nearest to it.

    Args:
        view: uint8 RGB `(size, size, 3)`.
        caption: Line below it, such as its true label.
        bars: List of `(label, value)`, drawn as bars from the top, the values in [0, 1]; or empty.
        known: Labels that are true of the image.
        neighbours: List of `(image, label, distance)`.
        title: What is shown.

    Returns:
        `matplotlib.figure.Figure`.

    Reference:
        Krizhevsky et al. 2012, https://papers.nips.cc/paper/4824, figure 4.
    """
    figure = _figure(11.5, 4.4, title)
    given, alike = figure.subfigures(1, 2, width_ratios=(2.1, 2.3))
    left, right = given.subplots(1, 2, width_ratios=(1.15, 1))
    _show(left, view, caption)
    _draw_bars(right, bars, known)
    alike.suptitle("nearest training images in the last hidden layer (distance)", fontsize=10)
    for axes, (image, label, distance) in _panels(alike.subplots(2, 3), neighbours):
        _show(axes, image, f"{_short(label, 22)}  ({distance:.3g})", fontsize=9)
    return figure


def _draw_bars(axes, bars, known):
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("probability", fontsize=9)
    axes.tick_params(labelsize=9)
    for place, (label, value) in enumerate(bars):
        true = label in known
        axes.barh(-place, value, height=0.36, color=ACCENT if true else PALE)
        name = f"{_short(label, 24)} {'(true) ' if true else ''}{value:.2f}"
        axes.text(0, -place + 0.26, name, fontsize=10, color=INK, weight="bold" if true else "normal", va="bottom")
    axes.set_ylim(-max(len(bars), 4) + 0.6, 0.75)


def draw_number(view, caption, value, truth, neighbours, name, title):
    """Draw the number that an image is given, beside those of the training images that are nearest to it.

    Args:
        view, caption, title: As for `draw_neighbours`.
        value: The number given.
        truth: The number that is true, or None.
        neighbours: List of `(image, label, distance)`, the label a number as text.
        name: Of the task.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = draw_neighbours(view, caption, [], (), neighbours, title)
    axes = figure.subfigs[0].axes[1]
    axes.spines["left"].set_visible(True)
    axes.set(xlabel="", xlim=(-1, 3), xticks=[0, 1, 2], ylabel=name)
    axes.set_xticklabels(["given", "true", "neighbours"], fontsize=9)
    axes.scatter([0], [value], s=90, color=ACCENT)
    numbers = [float(label) for _, label, _ in neighbours if label]
    axes.scatter([2] * len(numbers), numbers, s=60, color=PALE, edgecolor=INK, linewidth=0.5)
    if truth is not None:
        axes.scatter([1], [truth], s=90, color=INK, marker="D")
    axes.annotate(f"{value:.4g}", (0, value), (8, 8), textcoords="offset points", fontsize=10)
    axes.yaxis.set_major_locator(_few_ticks())
    everything = [value, *numbers, *([] if truth is None else [truth])]
    room = 0.15 * max(max(everything) - min(everything), 1e-9 + abs(value) / 10)
    axes.set_ylim(min(everything) - room, max(everything) + room)
    return figure


def draw_filters(pictures, title):
    """Draw filters, float `(n, height, width, 3)` in [0, 1], as one sheet."""
    larger = max(1, round(24 / pictures.shape[1]))
    sheet = tile(pictures.repeat(larger, axis=1).repeat(larger, axis=2), gap=2)
    height, width = sheet.shape[:2]
    figure = _figure(9.0, max(2.0, 9.0 * height / width + 0.7), title)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return figure


def draw_channels(rows, title):
    """Draw the images that make channels strongest; what is far from a channel's peak is dark.

    Args:
        rows: List of `(name, images, maps, peaks)`: uint8 RGB `(n, size, size, 3)`, float `(n, size, size)` in [0, 1],
            and float `(n,)`.
        title: What is shown.
    """
    columns = max(len(images) for _, images, _, _ in rows)
    figure = _figure(1.75 * columns + 1.2, 2.0 * len(rows) + 0.6, title)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images, maps, peaks) in zip(grid, rows, strict=True):
        for axes, (image, found, peak) in _panels(line, list(zip(images, maps, peaks, strict=True))):
            light = 0.4 + 0.6 * np.clip(1.6 * found, 0, 1)[..., None]
            _show(axes, (image * light).astype(np.uint8), f"{peak:.3g}", fontsize=8)
            axes.contour(found, levels=[0.5], colors=["#ffd400"], linewidths=1.2)
        line[0].set_ylabel(name, fontsize=9)
    return figure


def draw_ascent(images, captions, title):
    """Draw made-up images, uint8 RGB `(n, size, size, 3)`, each with its caption; dark and light are stretched."""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = _figure(3.0 * columns, 3.4 * rows + 0.5, title)
    for axes, (image, caption) in _panels(
        figure.subplots(rows, columns, squeeze=False), list(zip(images, captions, strict=True))
    ):
        low, high = np.percentile(image, (0.5, 99.5))
        _show(axes, np.clip((image - low) / max(high - low, 1), 0, 1), caption)
    return figure


def save(figure, path):
    """Write a figure as a PNG file: the same figure gives the same bytes. Names are shown as they are, `$` too."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in scripts that the font lacks: boxes
        figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def _figure(width, height, title):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    figure.suptitle("\n".join(textwrap.wrap(title, int(width * 9.5))), fontsize=12, color=INK)
    return figure


def _panels(grid, contents):
    """Yield `(axes, content)`, and hide the axes that are left over."""
    grid = np.asarray(grid).ravel()
    for number, axes in enumerate(grid):
        axes.set(xticks=[], yticks=[])
        if number < len(contents):
            yield axes, contents[number]
        else:
            axes.set_axis_off()


def _show(axes, image, caption, fontsize=10):
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontsize=fontsize)


def _over(view, values, name):
    """Return a map as a picture: coarse ones laid over the grey image, fine ones by themselves."""
    if name not in ("grad_cam", "occlusion"):
        highest = np.percentile(values, 99.7)
        return colormaps["magma"](np.clip(values / highest if highest > 0 else values, 0, 1))[..., :3]
    grey = np.repeat(view.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    if name == "occlusion":
        values = GaussianBlur(values, (0, 0), len(view) / 40)  # to the eye, steps between patches would be edges
    highest = np.abs(values).max()
    scaled = values / highest if highest > 0 else values
    if name == "grad_cam":
        colours, strength = colormaps["viridis"](scaled)[..., :3], 0.15 + 0.6 * scaled[..., None]
    else:
        colours, strength = colormaps["RdBu_r"](0.5 + 0.5 * scaled)[..., :3], 0.85 * np.abs(scaled[..., None]) ** 0.7
    return (1 - strength) * grey + strength * colours


def _few_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _short(text, most):
    return text if len(text) <= most else f"{text[: most - 1]}…"
