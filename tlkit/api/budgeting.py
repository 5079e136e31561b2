"""A run within a given time: measure the machine, audit, rank, plan, and end training so that the report is on time."""

import time
from dataclasses import dataclass, field, replace

from tlkit import run as run_folder
from tlkit.api.speed import measure
from tlkit.catalog import BUILDABLE, DEFAULT_BACKBONE
from tlkit.errors import RecipeError
from tlkit.recipe import read_recipe
from tlkit.search.budget import (
    MARGIN,
    Way,
    Work,
    choose,
    finishing_seconds,
    format_duration,
    next_steps,
    rule_stage,
    ways,
)
from tlkit.training import rules

AUDIT_SHARE, QUICK_SHARE = 0.1, 0.05  # of the budget, at most, for the audit with features, and without
AUDIT_READS = 4  # times that an audit reads an image, as large as it is
RANK_SHARE, RANK_LEAST = (
    0.2,
    120,
)  # of the budget, at most, for the ranking; with less than so many seconds there is none
RANKED_IMAGES = 1000
RESERVE = 1.2  # of what comes after training, kept free
LAST = 1.5  # seconds until the process has ended


@dataclass(frozen=True)
class Budget:
    """The time that a run may take.

    Attributes:
        seconds: All of it.
        choose_backbone: Whether the plan may take another backbone than the recipe's.
        started: When it began, on the clock of `time.monotonic`.
    """

    seconds: float
    choose_backbone: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self):
        """Seconds that have gone by."""
        return time.monotonic() - self.started

    @property
    def left(self):
        """Seconds that are left."""
        return self.seconds - self.spent


@dataclass(frozen=True)
class Planned:
    """What a run with a budget is given.

    Attributes:
        budget: The `Budget`.
        plan: What `plan.json` holds.
        audit: What `data.json` holds besides; empty where there was no time for an audit.
        train_until: When training has to be over, on the clock of `time.monotonic`.
    """

    budget: Budget
    plan: dict
    audit: dict
    train_until: float


def plan_run(job, budget):
    """Return a job with the recipe that fits into a budget, and with its `Planned`.

    Args:
        job: The `Job`, its recipe not resolved yet.
        budget: `Budget`.

    Raises:
        RecipeError: If the recipe asks for folds.
    """
    if job.recipe.data.folds:
        raise RecipeError("--budget: a run with folds has no one end. Leave one of the two out.")
    job.listener.engine_needed()
    spent = {"start": budget.spent}
    work = _work(job)
    speed = measure(job, work, budget.left)
    spent["measuring"] = budget.spent - sum(spent.values())
    audit = _audit(job, budget, speed)
    spent["audit"] = budget.spent - sum(spent.values())
    ranking = None
    if budget.choose_backbone and budget.seconds >= RANK_LEAST and len(job.data) - work.test >= 20:
        job, speed, ranking = _choose_backbone(job, budget, work, speed)
    spent["ranking"] = budget.spent - sum(spent.values())
    found = _ways(job, work, speed)
    place = choose(found, budget.left)
    way = found[place]
    finishing = finishing_seconds(way, work, speed)
    plan = {
        "budget_seconds": budget.seconds,
        "spent_seconds": {key: round(value, 3) for key, value in spent.items()},
        "backbone": job.recipe.backbone.name,
        "speed": vars(speed),
        "ranking": ranking,
        "ways": [vars(one) for one in found],
        "chosen": place,
        "finishing_seconds": finishing,
        "more_time": [
            {"budget_seconds": needed, "allows": one.describe()}
            for one, needed in next_steps(found, place, budget.spent)
        ],
    }
    _say(job, budget, speed, way)
    until = budget.started + budget.seconds - RESERVE * finishing - LAST
    recipe = _with_way(job, work, way) if _is_open(job.recipe) else job.recipe
    return replace(job, recipe=recipe, budget=Planned(budget, plan, audit, until))


def describe_outcome(plan, stages, best, used=None):
    """Say what became of a plan, and what more time would likely have bought.

    Args:
        plan: What `plan.json` holds.
        stages: The run's `Stage`s, as they ended.
        best: The row of what ships: `stage` and `epoch`.
        used: Seconds that the run took; None for one that was resumed.

    Returns:
        Dict of `used_seconds`, `cut_short` and `more_time`, a sentence.
    """
    cut = [number for number, stage in enumerate(stages) if stage.trained_epochs < stage.epochs]
    offers = [
        f"{format_duration(offer['budget_seconds'])} would allow {offer['allows']}" for offer in plan["more_time"]
    ]
    more = f"; a budget of {', of '.join(offers)}" if offers else ""
    trained = sum(stage.trained_epochs for stage in stages)
    if not trained:
        text = "no block was unfrozen, so what that gains is not known" if stages or offers else "nothing was left out"
    elif best["stage"] < 0:
        text = "unfreezing gained nothing over the probe that could be told from chance: more time would buy little"
    elif best["stage"] == len(stages) - 1 and best["epoch"] == stages[-1].trained_epochs - 1:
        text = "validation was best in the last epoch: more of them would likely help"
    else:
        text = f"validation was best in epoch {best['epoch'] + 1} of {trained}: more of them would buy little"
    return {
        "used_seconds": None if used is None else round(used, 3),
        "cut_short": cut[0] if cut else None,
        "more_time": text + more,
    }


def write_outcome(job, best):
    """Add to a run's `plan.json` what became of the plan, and say it."""
    path = job.path / run_folder.PLAN
    if not path.is_file():
        return
    plan = run_folder.read_json(path)
    used = job.budget.budget.spent if job.budget else None
    outcome = describe_outcome(plan, read_recipe(job.path / run_folder.RECIPE).stages, best, used)
    run_folder.write_json(path, plan | {"outcome": outcome})
    if used is not None:
        job.listener.note(f"budget: {format_duration(used)} of {format_duration(plan['budget_seconds'])} used")
    job.listener.note(f"more time: {outcome['more_time']}")


def _work(job):
    counts = {split: len(job.data.indices(split)) for split in ("train", "val", "test")}
    return Work(**counts, batch_size=min(job.recipe.data.batch_size, counts["train"]))


def _is_open(recipe):
    """Tell whether the recipe leaves it to the rules how the net is trained."""
    return recipe.stages == "auto" and recipe.head.init == "probe" and not recipe.head.original


def _ways(job, work, speed):
    """Return the `Way`s from which the plan chooses: for a recipe that says how the net is trained that one."""
    unfreeze, epochs = rule_stage(work.train, len(job.ends), work.batch_size)
    recipe, tta = job.recipe, rules.choose_tta(job.recipe.evaluation.tta, work.test or work.val)
    if not _is_open(recipe):
        return [Way(speed.image_size, recipe.data.views or 1, unfreeze, epochs, tta)]
    found = ways(work, speed, unfreeze=unfreeze, epochs=epochs, views=recipe.data.views or 1, tta=tta)
    return found if recipe.data.image_size == "auto" else [way for way in found if way.image_size == speed.image_size]


def _with_way(job, work, way):
    """Return a job's recipe with what a `Way` says."""
    recipe = job.recipe.model_copy(deep=True)
    recipe.data.image_size = way.image_size
    if recipe.data.views:
        recipe.data.views = way.views
    recipe.evaluation.tta = way.tta
    if way.unfreeze is None:
        recipe.stages = []
        return recipe
    [stage] = rules.choose_stages("auto", work.train, len(job.ends), work.batch_size, probed=True)
    recipe.stages = [stage.model_copy(update={"epochs": way.epochs})]
    return recipe


def _audit(job, budget, speed):
    """Audit the data as far as time allows; return what it adds to `data.json`."""
    from tlkit.api.audit import audit

    facts = len(job.data) * AUDIT_READS * speed.read
    full = job.recipe.backbone.weights == "imagenet" and job.recipe.backbone.name == DEFAULT_BACKBONE
    full = full and facts + speed.build + len(job.data) * speed.image <= AUDIT_SHARE * budget.seconds
    if job.data.images is not None or not (full or facts <= QUICK_SHARE * budget.seconds):
        job.listener.note("audit: none, for want of time; `tlkit audit` does it")
        return {}
    found = audit(job.data, quick=not full, listener=job.listener)
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in found.counts().items()) or "nothing found"
    job.listener.note(f"audit{'' if full else ' without features, for want of time'}: {counts}")
    return found.describe()


def _choose_backbone(job, budget, work, speed):
    """Rank the backbones that are at hand; return the job with the best that leaves time to train it, and its speed."""
    from tlkit.api.ranking import rank_within

    until = time.monotonic() + RANK_SHARE * budget.seconds
    ranking = rank_within(job.data, job.recipe.backbone.name, RANKED_IMAGES, until, job.listener)
    if ranking is None:
        return job, speed, None
    own = next(p.suitability for p in ranking.places if p.suitability.backbone == job.recipe.backbone.name)
    for place in ranking.places:
        name, times = place.suitability.backbone, place.suitability.image_seconds / own.image_seconds
        guess = replace(
            speed,
            image_size=BUILDABLE[name].image_size,
            **{key: times * getattr(speed, key) for key in ("prefix", "suffix", "step", "build", "first_step")},
        )
        if name == job.recipe.backbone.name or MARGIN * _least(job, work, guess).seconds <= budget.left:
            break
    job.listener.note(f"backbone: {name}, the best of {len(ranking.places)} that leaves time to train it")
    if name != job.recipe.backbone.name:
        recipe = job.recipe.model_copy(deep=True)
        recipe.backbone.name = name
        job = replace(job, recipe=recipe, ends=BUILDABLE[name].block_ends)
        speed = measure(job, work, budget.left)
    return job, speed, ranking.describe()


def _least(job, work, speed):
    """Return the least that a larger net must have time for: the stage of the rules, at its own size."""
    found = [way for way in _ways(job, work, speed) if way.image_size == speed.image_size]
    staged = [way for way in found if way.unfreeze is not None and way.views > 1]
    return staged[-1] if staged else found[0]


def _say(job, budget, speed, way):
    step = f", {speed.step:.2f} s a training step" if speed.step else ""
    net = f"{job.recipe.backbone.name} at {speed.image_size} pixels"
    job.listener.note(f"speed: {1000 * speed.image:.1f} ms an image through {net}{step}")
    if not _is_open(job.recipe):
        job.listener.note("plan: the recipe's own; training ends in time for the report")
        return
    job.listener.note(
        f"plan: {way.describe()}; predicted {format_duration(budget.spent + way.seconds)} of "
        f"{format_duration(budget.seconds)}"
    )
    if MARGIN * way.seconds > budget.left:
        job.listener.note("the budget is too short for anything that is known to work; this is the least")
