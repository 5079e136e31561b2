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


@dataclass(frozen=True)
class _Candidate:
    kind: str
    position: int
    bytes: int
    saved: int


def plan_cache(mode, stages, *, row_bytes, num_train, num_val, num_test, views, room):
    """Choose what to keep.

    Features are worth keeping if the run sees them more than once. What does not fit is computed every epoch.

    Args:
        mode: `"auto"`, `"ram"`, `"disk"` or `"off"`.
        stages: List of `(position, epochs)`: where each stage is cut (0: nothing is frozen), and how long it is.
        row_bytes: Function from a position to the bytes of one image's features there.
        num_train, num_val, num_test: Images of each split.
        views: Number of training views; None for a fresh one every epoch.
        room: Dict with the bytes that may be filled for `"disk"` and for `"ram"`.

    Returns:
        `CachePlan`.
    """
    streamed = sum((num_train + num_val) * epochs for position, epochs in stages if position)
    if mode == "off":
        return CachePlan("off", summary="features: computed anew every epoch (--cache off)")
    if not streamed:
        return CachePlan("off", summary="features: none to keep, no layer is frozen")
    candidates = _candidates(stages, row_bytes, num_train, num_val, num_test, views)
    kinds = ("disk", "ram") if mode == "auto" else (mode,)
    plans = [_fit(kind, candidates, room[kind]) for kind in kinds]
    best = max(plans, key=lambda plan: plan.saved)  # the first of equals: the disk serves later runs, too
    if not best.training and not best.evaluation:
        rooms = ", ".join(f"{format_size(room[kind])} {_PLACES[kind]}" for kind in kinds)
        least = min(candidate.bytes for candidate in candidates)
        return CachePlan(
            "off",
            summary=f"features: computed anew every epoch; room for {rooms}, needed at least {format_size(least)}",
        )
    summary = (
        f"features: kept {_PLACES[best.mode]} ({format_size(best.bytes)}), so that the frozen layers run on "
        f"{streamed - best.saved:,} image views instead of {streamed:,}"
    )
    return CachePlan(best.mode, best.training, best.evaluation, best.bytes, best.saved, summary)


_PLACES = {"disk": "on disk", "ram": "in memory"}


def _candidates(stages, row_bytes, num_train, num_val, num_test, views):
    """Return what could be kept: for each cut its training views, its validation view, and the run's test view."""
    periods, first, lowest = {}, 0, math.inf
    for position, length in stages:
        lowest = min(lowest, position)
        # A stage sees what an earlier one kept at its cut unless the layers below have been trained between them.
        changes = sum(earlier < position for earlier, _ in periods)
        periods.setdefault((position, changes), []).extend(range(first, first + length))
        first += length
    found = []
    for (position, _), epochs in periods.items():
        if not position:
            continue
        row, shown = row_bytes(position), len(set(epochs) if views is None else {epoch % views for epoch in epochs})
        if views is not None:
            size = shown * (num_train * row + ENTRY_BYTES)
            found.append(_Candidate("training", position, size, num_train * (len(epochs) - shown)))
        tested = num_test if position == lowest else 0
        size = (num_val + tested) * row + (2 if tested else 1) * ENTRY_BYTES
        found.append(_Candidate("evaluation", position, size, num_val * (len(epochs) - 1)))
    return found


def _fit(mode, candidates, room):
    """Return the plan that keeps what saves most for its size until the room is full."""
    kept, used = [], 0
    for candidate in sorted(candidates, key=lambda c: c.saved / max(1, c.bytes), reverse=True):
        if candidate.saved and used + candidate.bytes <= room:
            kept.append(candidate)
            used += candidate.bytes
    positions = {kind: frozenset(c.position for c in kept if c.kind == kind) for kind in ("training", "evaluation")}
    return CachePlan(mode, **positions, bytes=used, saved=sum(c.saved for c in kept))


def memory_room():
    """Return the bytes of memory that features may fill: half of what is available now, in a container of its share."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return int(max(0, min(available, _control_group_room()))) // 2


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
