"""Which features a run keeps, and where: what is saved is weighed against what they take."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from tlkit.training.sizes import format_size

ENTRY_BYTES = 4096  # of an entry besides its rows, on disk, with all of up to a hundred shards


@dataclass(frozen=True)
class CachePlan:
    """What a run keeps.

    Attributes:
        mode: `"disk"`, `"ram"` or `"off"`.
        training, evaluation: Positions of the chain at which training views and evaluation views are kept.
        bytes: What all that takes.
        saved: Image views that the frozen layers need not run on.
        summary: One line that says what was chosen and why.
    """

    mode: str
    training: frozenset = frozenset()
    evaluation: frozenset = frozenset()
    bytes: int = 0
    saved: int = 0
    summary: str = ""


def plan_cache(mode, stages, *, row_bytes, num_train, num_val, num_test, keep_training, room, anyway=None):
    """Choose what to keep.

    Features are worth keeping if the run sees them more than once. What does not fit is computed every epoch.

    Args:
        mode: `"auto"`, `"ram"`, `"disk"` or `"off"`.
        stages: List of `(position, numbers)`: where each stage is cut (0: nothing is frozen), and which training view
            each of its epochs shows; None for one that no other epoch shows.
        row_bytes: Function from a position to the bytes of one image's features there.
        num_train, num_val, num_test: Images of each split.
        keep_training: Whether training views are ever shown again.
        anyway: A position whose features are kept even if the run sees them once: later runs and other folds need them.
        room: Dict with the bytes that may be filled for `"disk"` and for `"ram"`.

    Returns:
        `CachePlan`.
    """
    if mode == "off":
        return CachePlan("off", summary="features: computed anew every epoch (--cache off)")
    if not any(position for position, _ in stages):
        return CachePlan("off", summary="features: none to keep, no layer is frozen")
    periods = _periods(stages)
    sizes = _sizes(periods, row_bytes, num_train, num_val, num_test, keep_training)
    kinds = ("disk", "ram") if mode == "auto" else (mode,)

    def views_run(kept):
        return _views_run(periods, kept, num_train, num_val)

    kept_by_kind = {kind: _choose(sizes, views_run, room[kind], anyway) for kind in kinds}
    chosen = min(kinds, key=lambda kind: views_run(kept_by_kind[kind]))  # the first of equals: it serves later runs
    kept = kept_by_kind[chosen]
    if not kept:
        rooms = ", ".join(f"{format_size(room[kind])} {_PLACES[kind]}" for kind in kinds)
        least = format_size(min(sizes.values()))
        summary = f"features: computed anew every epoch; room for {rooms}, needed at least {least}"
        return CachePlan("off", summary=summary)
    streamed, size = views_run(frozenset()), sum(sizes[candidate] for candidate in kept)
    summary = (
        f"features: kept {_PLACES[chosen]} ({format_size(size)}), so that the frozen layers run on "
        f"{views_run(kept):,} image views instead of {streamed:,}"
    )
    positions = {use: frozenset(position for of, position in kept if of == use) for use in ("training", "evaluation")}
    return CachePlan(chosen, **positions, bytes=size, saved=streamed - views_run(kept), summary=summary)


_PLACES = {"disk": "on disk", "ram": "in memory"}


@dataclass(frozen=True)
class _Period:
    """What a stage shows: where it is cut, after how many trainings of layers below, its epochs' views as given."""

    position: int
    changes: int
    numbers: tuple


def _periods(stages):
    periods = []
    for position, numbers in stages:
        # A stage sees what an earlier one kept at its cut unless the layers below have been trained between them.
        changes = sum(earlier.position < position for earlier in periods)
        periods.append(_Period(position, changes, tuple(numbers)))
    return periods


def _sizes(periods, row_bytes, num_train, num_val, num_test, keep_training):
    """Return what could be kept, with its bytes: `("training" or "evaluation", position)`, the latter with the test."""
    shown, sizes = {}, {}
    for period in periods:
        shown.setdefault((period.position, period.changes), set()).update(set(period.numbers) - {None})
    lowest = min(period.position for period in periods)
    for (position, _), numbers in shown.items():
        if not position:
            continue
        row = row_bytes(position)
        if keep_training and numbers:
            needed = len(numbers) * (num_train * row + ENTRY_BYTES)
            sizes["training", position] = sizes.get(("training", position), 0) + needed
        images = num_val + (num_test if position == lowest else 0)
        sizes["evaluation", position] = sizes.get(("evaluation", position), 0) + images * row + 2 * ENTRY_BYTES
    return sizes


def _views_run(periods, kept, num_train, num_val):
    """Return on how many image views the frozen layers run, with some of `_sizes` kept; a pass fills later cuts too."""
    total, done = 0, set()
    for place, period in enumerate(periods):
        if not period.position:
            continue
        for number in period.numbers:
            for use, view, count in (("training", number, num_train), ("evaluation", None, num_val)):
                if (use, period.position, period.changes, view) in done:
                    continue
                total += count
                if (use, period.position) not in kept or (use, view) == ("training", None):
                    continue
                along = filled_along(period.position, [later.position for later in periods[place + 1 :]])
                for other in [period, *(periods[place + 1 + offset] for offset in along)]:
                    if (use, other.position) in kept and (view is None or view in other.numbers):
                        done.add((use, other.position, other.changes, view))
    return total


def filled_along(position, later):
    """Return which later stages' cuts the pass for one stage can fill, too.

    Args:
        position: The stage's cut.
        later: The cuts of the stages after it, in order.

    Returns:
        List of places in `later`: cuts nearer to the image, below which no stage trains until they are needed.
    """
    lowest = [min([position, *later[: place + 1]]) for place in range(len(later))]
    return [place for place, cut in enumerate(later) if 0 < cut < position and cut == lowest[place]]


def _choose(sizes, views_run, room, anyway):
    """Return what to keep: again and again what saves most for its size, until nothing does or the room is full."""
    kept = frozenset(candidate for candidate in sizes if candidate[1] == anyway)
    used = sum(sizes[candidate] for candidate in kept)
    if used > room:
        kept, used = frozenset(), 0
    while True:
        before = views_run(kept)
        gains = {
            candidate: (before - views_run(kept | {candidate})) / size
            for candidate, size in sizes.items()
            if candidate not in kept and used + size <= room
        }
        best = max(gains, key=gains.get, default=None)
        if best is None or gains[best] <= 0:
            return kept
        kept, used = kept | {best}, used + sizes[best]


def memory_room(beside=0):
    """Return the bytes of memory that features may fill: half of what is available, or what training leaves of it.

    Args:
        beside: Bytes that training is predicted to take.
    """
    available = available_memory()
    return max(0, min(available // 2, available - beside))


def available_memory():
    """Return the bytes of memory that this process may still take; in a container, of its share."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return int(max(0, min(available, _control_group_room())))


def _control_group_room():
    """Return the bytes that the process's control group may still take; infinity where there is no limit."""
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            return int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
        except (OSError, ValueError):  # no such group, or the limit is "max"
            continue
    return math.inf
