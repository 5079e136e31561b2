"""What fits into a given time: what each way of making a model would take, and which is the best that does.

Nothing here measures or trains: it is arithmetic on what was measured, so that a plan can be read and checked.
"""

import re
from dataclasses import dataclass, replace

from tlkit.data.tta import find_views
from tlkit.errors import TlkitError, shown
from tlkit.training import rules

UNITS = {"h": 3600, "m": 60, "s": 1}
LEAST_SECONDS = 30  # in less, not even the engine and the report are done with
MOST_SECONDS = 1000 * 3600
SMALLER = (160, 128)  # sides in pixels at which a net sees less, and takes a half and a third of the time
SMALLEST = (96, 64)  # for a probe alone
LEAST_EPOCHS = 3  # as of `rules.choose_stages`: fewer are not worth the compiling
MOST_TIMES = 3  # so many times the epochs of the rules, where there is time
MARGIN = 1.15  # what a prediction may be wrong by before training is cut short
REPORT_SECONDS = 5.0  # for the report, and for saving
# A probe's search for its penalty, for each image, and for each image and output: on one core 26,214 images took 22 s
# with 10 classes, and 65 s with 100 (`tlkit.training.probe`).
PROBE_SECONDS, PROBE_IMAGE, PROBE_OUTPUT = 1.0, 7e-4, 1.8e-5
PROBE_IMAGES = 26_214
COMPILING_SECONDS = 5.0  # of a first training step that isn't timed
FIRST_SHARE = 0.4  # of the budget: where the probe would come later, one of some of the images comes before it
EARLY_SHARE, EARLY_MOST = 0.08, 20.0  # of the budget and in seconds, at most, for that one
EARLY_SECONDS = 2.0  # of it for fitting and saving
EARLY_IMAGES, LEAST_EARLY = 1000, 32


def parse_duration(text):
    """Return the seconds of a time such as `"10m"`, `"90s"` or `"1h30m"`.

    Raises:
        TlkitError: If it isn't one, is less than half a minute, or more than six weeks.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if not parts or not any(parts.groups()):
        raise TlkitError(f"--budget: expected a time such as 90s, 10m or 1h30m. Received: {shown(text)}")
    seconds = sum(float(part) * unit for part, unit in zip(parts.groups(), UNITS.values(), strict=True) if part)
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise TlkitError(f"--budget: expected {LEAST_SECONDS}s to {MOST_SECONDS // 3600}h. Received: {shown(text)}")
    return seconds


def format_duration(seconds):
    """Return seconds as a person says them: `"42s"`, `"3m 5s"`, `"1h 20m"`."""
    seconds = round(seconds)
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


@dataclass(frozen=True)
class Work:
    """How much there is to do.

    Attributes:
        train, val, test: Images of each split.
        batch_size: Images of a training step.
        outputs: Classes and numbers, of all tasks.
        kept: Whether features of frozen layers are kept, so that no epoch computes them again.
    """

    train: int
    val: int
    test: int
    batch_size: int
    outputs: int = 10
    kept: bool = True

    @property
    def steps(self):
        """Training steps of an epoch."""
        return -(-self.train // self.batch_size)

    def rule_stage(self, num_blocks):
        """Return the one `Stage` that the rules take after a probe, or None, for a backbone of so many blocks."""
        stages = rules.choose_stages("auto", self.train, num_blocks, self.batch_size, probed=True)
        return stages[0] if stages else None


@dataclass(frozen=True)
class Speed:
    """What one net takes on one machine, in seconds, measured.

    Attributes:
        image_size: Side in pixels at which it was measured; time goes with its square.
        build: To build the net.
        read: To read and render one image.
        prefix, suffix: To run one image through the layers that stay frozen in the stage, and through those above.
        step: Of a training step of the stage; 0 where there is no stage.
        first_step: Of its first step, which compiles.
    """

    image_size: int
    build: float
    read: float
    prefix: float
    suffix: float
    step: float = 0.0
    first_step: float = 0.0

    def at(self, image_size):
        """Return the speed at another image size."""
        share = (image_size / self.image_size) ** 2
        scaled = {key: share * getattr(self, key) for key in ("prefix", "suffix", "step")}
        return replace(self, image_size=image_size, **scaled)

    @property
    def image(self):
        """To read one image and run it through the whole net."""
        return self.read + self.prefix + self.suffix


@dataclass(frozen=True)
class Way:
    """One way of making a model.

    Attributes:
        image_size: Side in pixels of what the net sees.
        views: Training views of each image while layers are frozen.
        unfreeze: Blocks that train in the one stage; None for the probe alone.
        epochs: Of that stage.
        tta: Test-time views whose worth is measured.
        early: Images of which a first, passing model is made; 0 for none.
        seconds: What it takes from the building of the net on, as predicted.
    """

    image_size: int
    views: int
    unfreeze: int | str | None
    epochs: int
    tta: str
    early: int = 0
    seconds: float = 0.0

    def describe(self):
        """Return it in words."""
        views = f"{self.views} view{'s' if self.views > 1 else ''}"
        what = f"a linear probe of {views} at {self.image_size} pixels"
        if self.unfreeze is not None:
            blocks = "all blocks" if self.unfreeze == "all" else f"{self.unfreeze} blocks"
            what += f", then {blocks} for {self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return what


def finishing_seconds(way, work, speed):
    """Return what comes after training: calibration, predictions of validation and test images, a model, a report."""
    speed = speed.at(way.image_size)
    renderings = len({*find_views("none"), *find_views(way.tta)})
    passes = (work.val * (renderings - 1) + work.test * renderings) * speed.image
    known = speed.image  # of a validation image as it is: its features are kept, if any layers are frozen
    if work.kept and way.unfreeze != "all":
        known = 0.0 if way.unfreeze is None else speed.suffix
    return REPORT_SECONDS + speed.build + passes + 2 * work.val * known


def probe_seconds(way, work, speed):
    """Return what it takes from the building of the net to its probe."""
    speed = speed.at(way.image_size)
    fitted = min(PROBE_IMAGES, way.views * work.train) * fitting_seconds(work)
    validated = work.val if work.kept else 2 * work.val  # for the penalty, and for the figures
    return speed.build + (way.views * work.train + validated) * speed.image + PROBE_SECONDS + fitted


def fitting_seconds(work):
    """Return what an image adds to the fitting of a probe."""
    return PROBE_IMAGE + PROBE_OUTPUT * work.outputs


def _early_seconds(images, work, speed):
    """Return what the early model of so many images takes; none are kept, so that validation images are read twice."""
    read_twice = work.val / (work.train + work.val)
    return EARLY_SECONDS + images * ((1 + read_twice) * speed.image + fitting_seconds(work))


def with_early_model(way, work, speed, budget, spent):
    """Return a way that begins with a model of some of the images, if that of all comes late and that one far sooner.

    Args:
        way: `Way`.
        work: `Work`.
        speed: `Speed`, at any image size.
        budget: All of it, in seconds.
        spent: Seconds that have gone by.
    """
    probe, there = probe_seconds(way, work, speed), speed.at(way.image_size)
    if spent + probe <= FIRST_SHARE * budget:
        return way
    an_image = _early_seconds(1, work, there) - EARLY_SECONDS
    affordable = int((min(EARLY_SHARE * budget, EARLY_MOST) - EARLY_SECONDS) / an_image)
    images = min(EARLY_IMAGES, work.train + work.val, affordable)
    if images < LEAST_EARLY or 2 * _early_seconds(images, work, there) > probe - speed.build:
        return way
    early = replace(way, early=images)
    return replace(early, seconds=predict_seconds(early, work, speed))


def predict_seconds(way, work, speed):
    """Return what a way of making a model takes, from the building of the net to the report.

    Args:
        way: `Way`.
        work: `Work`.
        speed: `Speed`, at any image size.
    """
    total, speed = probe_seconds(way, work, speed) + finishing_seconds(way, work, speed), speed.at(way.image_size)
    if way.early:
        total += _early_seconds(way.early, work, speed)
    if way.unfreeze is None:
        return total
    # Features that stay frozen come out of the passes above, if they are kept; where all blocks train there are none.
    seen, lower = work.train + work.val, speed.read + speed.prefix
    again = seen * lower if way.unfreeze == "all" or not work.kept else 0
    return total + speed.first_step + way.epochs * (work.steps * speed.step + work.val * speed.suffix + again)


def ways(work, speed, stage, *, views, tta, smallest=0):
    """List the ways of making a model, those that promise most first.

    Pretrained nets are for images of their own size; but where there are images enough to train all blocks, a stage at
    a smaller size is worth more than a probe at the full one, and two views of each image are worth more than one.
    With more time than the rules take, a stage is up to three times as long.

    Args:
        work: `Work`.
        speed: `Speed`, at the net's full image size.
        stage: As from `Work.rule_stage`.
        views, tta: Lists of what the plan may choose from, what promises most first.
        smallest: Least side in pixels that the net takes.

    Returns:
        List of `Way`, their seconds predicted.
    """
    full, (most, *_), (usual, *_) = speed.image_size, views, tta
    least, plain = views[-1], tta[-1]
    smaller, further = ([size for size in sizes if smallest <= size < full] for sizes in (SMALLER, SMALLEST))
    found = []
    if stage:
        sizes = [full, *smaller] if stage.unfreeze == "all" else [full]
        shortest, longest = min(LEAST_EPOCHS, stage.epochs), MOST_TIMES * stage.epochs
        for size in sizes:
            found += [Way(size, most, stage.unfreeze, number, usual) for number in range(longest, shortest - 1, -1)]
            found.append(Way(size, least, stage.unfreeze, shortest, plain))
    found += [Way(full, most, None, 0, usual), Way(full, least, None, 0, plain)]
    found += [Way(size, least, None, 0, plain) for size in (*smaller, *further)]
    found = list(dict.fromkeys(found))
    return [replace(way, seconds=predict_seconds(way, work, speed)) for way in found]


def guess_step(speed, work):
    """Return a `Speed` with a training step that isn't timed yet.

    It takes about three times what its layers take to run: once forward, once for the gradients of what each takes in,
    once for those of its weights.
    """
    return replace(speed, step=3 * work.batch_size * speed.suffix, first_step=COMPILING_SECONDS)


def may_fit(work, speed, stage, left):
    """Tell whether a few epochs of a stage fit into the seconds left, at whatever image size."""
    found = ways(work, speed, stage, views=[1], tta=["none"])
    return any(way.unfreeze is not None and way.seconds <= left for way in found)


def choose(found, left):
    """Return the place in a list from `ways` of the first that fits into the seconds left; of the last if none does."""
    return next((place for place, way in enumerate(found) if MARGIN * way.seconds <= left), len(found) - 1)


def budget_for(way, work, speed, spent):
    """Return the seconds of the budget, about, in which a way would be chosen.

    Args:
        way: `Way`.
        work: `Work`.
        speed: `Speed`, at any image size.
        spent: Seconds that have gone by when it is chosen.
    """
    bare = replace(way, early=0)
    bare = replace(bare, seconds=predict_seconds(bare, work, speed))
    needed = spent + MARGIN * bare.seconds
    for _ in range(4):  # the early model's share of the budget is part of what it takes
        needed = spent + MARGIN * with_early_model(bare, work, speed, needed, spent).seconds
    return needed


def next_steps(found, chosen, needed):
    """Return what more time would allow: pairs of a `Way` and the budget in seconds that it needs, the nearest first.

    Args:
        found: From `ways`.
        chosen: The place of the one that was chosen.
        needed: Function from a way to the budget that it needs.
    """
    better = [(way, needed(way)) for way in found[:chosen]]
    kinds = {}
    for way, needed in sorted(better, key=lambda pair: pair[1]):
        kinds.setdefault((way.image_size, way.unfreeze), (way, needed))
    longest = better[:1]  # the first of all promises most
    return list(dict.fromkeys([*kinds.values(), *longest]))
