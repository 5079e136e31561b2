"""Accuracy against operations: nets as circles, as large as their parameters are many.

Reference:
    Canziani, Paszke & Culurciello 2017, https://arxiv.org/abs/1605.07678, figure 2.
"""

from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
from matplotlib.figure import Figure

from tlkit.run import atomic_path

AREA = 9.0  # square points of a circle per million parameters
FONT_SIZE = 8
LETTER = (4.5, 8)  # points: width and height of a letter, about
LEGEND = (5, 25, 60, 140)  # million parameters
# Families in the order of the legend: the beginning of their names, and their colour.
FAMILIES = {
    "AlexNet": "#7f7f7f",
    "SqueezeNet": "#8c564b",
    "VGG": "#1f77b4",
    "GoogLeNet, Inception, Xception": "#2ca02c",
    "ResNet, ResNeXt": "#d62728",
    "DenseNet": "#9467bd",
    "MobileNet, NASNet, EfficientNet": "#ff7f0e",
}


def write_chart(rows, file):
    """Draw published accuracy against multiply-accumulates as a PNG file.

    Args:
        rows: `tlkit.catalog.published.Published`s.
        file: `pathlib.Path` of the PNG file.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for family, colour in FAMILIES.items():
        of_family = [row for row in rows if _family(row) == family]
        axes.scatter(
            [row.macs / 1e9 for row in of_family],
            [100 * row.top1 for row in of_family],
            s=[AREA * row.parameters / 1e6 for row in of_family],
            color=colour,
            alpha=0.35,
            linewidths=0,
        )
        axes.plot(
            [row.macs / 1e9 for row in of_family],
            [100 * row.top1 for row in of_family],
            linestyle="",
            marker="o",
            markersize=3,
            color=colour,
            label=family,
        )
    axes.set(
        xlabel="multiply-accumulates for one image, in billions",
        ylabel="top-1 accuracy on ImageNet's validation images, one crop (%)",
        title="Accuracy against operations; the area of a circle is the number of parameters",
    )
    axes.set_xscale("log")
    axes.set_xlim(0.22, 32)
    axes.set_ylim(54, 83)
    ticks = (0.25, 0.5, 1, 2, 4, 8, 16, 32)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.25)
    _write_names(figure, axes, rows)
    _write_legends(axes)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _family(row):
    return next(family for family in FAMILIES if any(row.title.startswith(word.strip()) for word in family.split(",")))


def _write_names(figure, axes, rows):
    """Write each net's name beside its point, in the first place where nothing else is written."""
    figure.draw_without_rendering()  # only then is it settled where on the page a point lies
    points = {row.net: axes.transData.transform((row.macs / 1e9, 100 * row.top1)) * 72 / figure.dpi for row in rows}
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points.values()]
    for row in sorted(rows, key=lambda row: -row.top1):
        x, y = points[row.net]
        width = LETTER[0] * len(row.title)
        for dx, dy in _places(width):
            box = (x + dx, y + dy, x + dx + width, y + dy + LETTER[1])
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        place = {"xytext": (dx, dy), "textcoords": "offset points"}
        axes.annotate(row.title, (row.macs / 1e9, 100 * row.top1), fontsize=FONT_SIZE, **place)


def _places(width):
    """Return where a name may begin, in points from the net's own: beside it, then above and below."""
    right, left, middle = 5, -5 - width, -width / 2
    return [(right, -3), (left, -3), (middle, 6), (middle, -13), (right, 4), (right, -10), (left, 4), (left, -10)] + [
        (side, height) for height in (14, -20, 22, -28) for side in (middle, right, left)
    ]


def _overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _write_legends(axes):
    axes.add_artist(axes.legend(loc="lower right", fontsize=FONT_SIZE, frameon=False))
    circles = [
        axes.scatter([], [], s=AREA * millions, color="#888888", alpha=0.35, linewidths=0, label=f"{millions} M")
        for millions in LEGEND
    ]
    axes.legend(
        handles=circles,
        title="parameters",
        alignment="left",
        loc="lower center",
        fontsize=FONT_SIZE,
        title_fontsize=FONT_SIZE,
        frameon=False,
        ncols=len(circles),
        columnspacing=3,
        handletextpad=2,
        borderpad=2,
    )
