"""The figures of a report, drawn by matplotlib as SVG that takes its colours from the page: dark mode costs nothing.

No figure shows text of the user's, so that no name can break a layout or lack a glyph.
"""

import functools
import io
import re
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

# Stand-ins that matplotlib draws with, to what the page says instead. None may be a prefix of another.
TEXT, LINES, SERIES = "#010101", "#020202", tuple(f"#0303{k:02x}" for k in range(1, 9))
COLOURS = {TEXT: "currentColor", LINES: "var(--line)"} | {c: f"var(--c{k})" for k, c in enumerate(SERIES, 1)}
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)), (0, (3, 1)))
WIDTH, HEIGHT = 4.4, 3.0  # inches of 72 pixels: a phone shows the text in the size that it was drawn
MANY_POINTS = 1500

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tlkit",
    "font.family": "DejaVu Sans",  # the widest of the usual ones: what is laid out with it fits with any
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": LINES,
    "axes.linewidth": 1,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "xtick.color": LINES,
    "ytick.color": LINES,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "lines.linewidth": 2,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        svg: An `<svg>` element.
        alt: What it shows, in words.
        caption: What it is; shown below it.
    """

    svg: Markup
    alt: str
    caption: str


def _styled(draw):
    """Make a function draw in the report's style, whatever the process has set for its own figures."""

    @functools.wraps(draw)
    def draw_styled(*args, **settings):
        import matplotlib

        with matplotlib.rc_context(matplotlib.rcParamsDefault.copy() | {"backend": "svg"} | _STYLE):
            return draw(*args, **settings)

    return draw_styled


class _Pen:
    """Axes in the report's style; `drawing` turns them into a `Drawing`."""

    def __init__(self, name, width=WIDTH, height=HEIGHT):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self._name = name
        self._figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
        FigureCanvasSVG(self._figure)
        self.axes = self._figure.add_subplot()

    def drawing(self, alt, caption):
        text = io.StringIO()
        self._figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return Drawing(_for_the_page(text.getvalue(), self._name, alt), alt, caption)


def _for_the_page(svg, name, alt):
    """Return matplotlib's SVG document as an element: ids of its own, the page's colours and font, no address."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]+"', svg)[0]
    svg = re.sub(r"<svg[^>]*>", f'<svg {view} role="img" aria-label="{Markup.escape(alt)}">', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return Markup(svg)


@_styled
def draw_history(name, history, column, title, *, shipped=None, probe=None):
    """Draw what each epoch gave: a column of `history.csv`, and that of the validation images.

    Args:
        name: For the ids inside, unique in the page.
        history: List of dicts, one an epoch.
        column: `"loss"`, `"accuracy"` or `"learning_rate"`.
        title: What it is in words, for the axis.
        shipped: Row number of the epoch that ships, or None.
        probe: The linear probe's validation figure, or None.

    Returns:
        `Drawing`.
    """
    pen, epochs = _Pen(name), np.arange(1, len(history) + 1)
    axes = pen.axes
    values = [row[column] for row in history]
    alt = f"Line chart of {title} by epoch, {len(history)} in all. "
    if f"val_{column}" in history[0]:
        validation = [row[f"val_{column}"] for row in history]
        axes.plot(epochs, values, color=SERIES[1], linestyle="--", label="training", marker=_dot(history))
        axes.plot(epochs, validation, color=SERIES[0], label="validation", marker=_dot(history))
        alt += f"Training goes from {values[0]:.3g} to {values[-1]:.3g}, validation from {validation[0]:.3g} to "
        alt += f"{validation[-1]:.3g}."
        if shipped is not None:
            axes.plot(shipped + 1, validation[shipped], "o", color=SERIES[2], markersize=9, label="shipped")
            alt += f" The epoch that ships is number {shipped + 1}, at {validation[shipped]:.3g}."
        if probe is not None:
            axes.axhline(probe, color=SERIES[3], linestyle=":", label="linear probe, validation")
            alt += f" The linear probe is at {probe:.3g}."
        axes.legend(loc="lower left", bbox_to_anchor=(-0.15, 1.0), ncols=2, fontsize=9, columnspacing=1.2)
    else:
        axes.plot(epochs, values, color=SERIES[0], marker=_dot(history))
        alt += f"It goes from {values[0]:.3g} to {values[-1]:.3g}, at most {max(values):.3g}."
        peaks = [
            max(row[column] for row in history if row["stage"] == stage) for stage in {r["stage"] for r in history}
        ]
        if min(peaks) > 0 and max(peaks) > 20 * min(peaks):
            axes.set_yscale("log")
    _mark_stages(axes, history)
    _whole_epochs(axes, len(history))
    axes.set_ylabel(title)
    return pen.drawing(alt, title[0].upper() + title[1:])


@_styled
def draw_histories(name, histories, column, title):
    """Draw one validation figure of several runs, each in its own colour and dashes.

    Args:
        name, column, title: As for `draw_history`.
        histories: List of histories; a run without one is left out, and keeps its colour.
    """
    pen, words = _Pen(name, height=3.0), []
    longest = 1
    for k, history in enumerate(histories):
        if history:
            values = [row[f"val_{column}"] for row in history]
            longest = max(longest, len(values))
            epochs = np.arange(1, len(values) + 1)
            pen.axes.plot(epochs, values, color=SERIES[k % 8], linestyle=DASHES[k % 8], marker=_dot(history))
            words.append(f"run {k + 1} from {values[0]:.3g} to {values[-1]:.3g}")
    _whole_epochs(pen.axes, longest)
    pen.axes.set_ylabel(title)
    return pen.drawing(f"Line chart of {title} by epoch: {'; '.join(words)}.", title[0].upper() + title[1:])


@_styled
def draw_reliability(name, figures, caption):
    """Draw how often a model is right against how sure it is, bin by bin.

    Args:
        name: For the ids inside, unique in the page.
        figures: Dict with `ece` and `reliability`: list of dicts `low`, `high`, `n`, `confidence`, `accuracy`.
        caption: What these figures are.
    """
    pen = _Pen(name, width=4.2, height=3.9)
    axes = pen.axes
    bins = [row for row in figures["reliability"] if row["n"]]
    total = sum(row["n"] for row in bins) or 1
    for row in bins:
        axes.bar(
            row["low"],
            row["accuracy"],
            row["high"] - row["low"],
            align="edge",
            color=SERIES[0],
            alpha=0.25 + 0.6 * (row["n"] / total) ** 0.5,
            edgecolor=SERIES[0],
        )
    axes.plot([0, 1], [0, 1], color=TEXT, linestyle="--", linewidth=1.2)
    confidence, accuracy = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    axes.plot(confidence, accuracy, "o", color=SERIES[1], markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="how sure the model is", ylabel="how often it is right")
    axes.set_aspect("equal")
    words = "; ".join(f"{c:.0%} sure, {a:.0%} right" for c, a in zip(confidence, accuracy, strict=True))
    alt = f"Reliability diagram: {caption}. Expected calibration error {figures['ece']:.3f}. By bin: {words}."
    return pen.drawing(alt, caption)


@_styled
def draw_scatter(name, labels, predictions, title):
    """Draw predicted against true numbers, with the line where both are equal.

    Args:
        name: For the ids inside, unique in the page.
        labels, predictions: float `(images,)`.
        title: The task's name.
    """
    pen = _Pen(name, width=4.2, height=3.9)
    low, high = float(min(labels.min(), predictions.min())), float(max(labels.max(), predictions.max()))
    margin = 0.05 * (high - low) or 1.0
    extent = (low - margin, high + margin)
    pen.axes.plot(extent, extent, color=TEXT, linestyle="--", linewidth=1.2)
    if len(labels) > MANY_POINTS:
        _density(pen.axes, labels, predictions, extent)
    else:
        alpha = float(np.clip(8 / len(labels) ** 0.5, 0.25, 0.8))
        pen.axes.plot(labels, predictions, "o", color=SERIES[0], markersize=5, alpha=alpha, markeredgewidth=0)
    pen.axes.set(xlim=extent, ylim=extent, xlabel=f"true {title}", ylabel=f"predicted {title}")
    pen.axes.set_aspect("equal")
    alt = (
        f"Scatter plot of predicted against true {title} for {len(labels)} images. True ones go from "
        f"{labels.min():.4g} to {labels.max():.4g}, predicted ones from {predictions.min():.4g} to "
        f"{predictions.max():.4g}."
    )
    return pen.drawing(alt, "Predicted against true; on the dashed line both are equal.")


@_styled
def draw_residuals(name, errors, title):
    """Draw how the errors of predicted numbers are distributed.

    Args:
        name: For the ids inside, unique in the page.
        errors: float `(images,)`: predicted minus true.
        title: The task's name.
    """
    from matplotlib.ticker import MaxNLocator

    pen = _Pen(name, width=4.2, height=3.9)
    pen.axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    pen.axes.hist(errors, bins=min(30, max(5, round(len(errors) ** 0.5))), color=SERIES[0], alpha=0.75)
    pen.axes.axvline(0, color=TEXT, linestyle="--", linewidth=1.2)
    pen.axes.set(xlabel=f"predicted minus true {title}", ylabel="images")
    low, middle, high = np.quantile(errors, (0.05, 0.5, 0.95))
    alt = (
        f"Histogram of predicted minus true {title} for {len(errors)} images: half of them are below {middle:.3g}, "
        f"nine of ten between {low:.3g} and {high:.3g}."
    )
    return pen.drawing(alt, "Errors: predicted minus true; left of the dashed line the estimate is too low.")


def _density(axes, labels, predictions, extent):
    """Draw where points are many, by squares as opaque as they are full."""
    counts, xs, ys = np.histogram2d(labels, predictions, bins=40, range=(extent, extent))
    side = xs[1] - xs[0]
    for i, j in zip(*np.nonzero(counts), strict=True):
        alpha = 0.15 + 0.85 * float(counts[i, j] / counts.max()) ** 0.5
        axes.bar(xs[i], side, side, bottom=ys[j], align="edge", color=SERIES[0], alpha=alpha, linewidth=0)


def _mark_stages(axes, history):
    """Draw a line where a stage ends."""
    for k in range(1, len(history)):
        if history[k]["stage"] != history[k - 1]["stage"]:
            axes.axvline(k + 0.5, color=TEXT, linewidth=1, alpha=0.5)
            axes.annotate(f" stage {history[k]['stage']:.0f}", (k + 0.5, 1), xycoords=("data", "axes fraction"),
                          va="top", fontsize=8)  # fmt: skip


def _whole_epochs(axes, count):
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlim(0.7, max(count, 2) + 0.3)
    axes.set_xlabel("epoch")


def _dot(history):
    return "o" if len(history) == 1 else None
