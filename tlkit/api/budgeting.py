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
    budget_for,
    choose,
    finishing_seconds,
    fitting_seconds,
    format_duration,
    next_steps,
    ways,
    with_early_model,
)
from tlkit.training import rules

AUDIT_SHARE, QUICK_SHARE = 0.1, 0.05  # of the budget, at most, for the audit with features, and without
AUDIT_PROBES = 5  # probes that it fits on all images
AUDIT_READS = 4  # times that an audit reads an image, as large as it is
RANK_SHARE = 0.2  # of the budget, at most, for the ranking
RANKED_IMAGES, LEAST_RANKED = 1000, 20
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
        early_images: As for `tlkit.training.fit.Training`.
        train_until: When training has to be over, on the clock of `time.monotonic`.
    """

    budget: Budget
    plan: dict
    audit: dict
    early_images: int
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
    audit = _audit(job, budget, work, speed)
    spent["audit"] = budget.spent - sum(spent.values())
    ranking = None
    if budget.choose_backbone and _is_worth_ranking(job, budget, work, speed):
        job, speed, ranking = _choose_backbone(job, budget, work, speed)
    spent["ranking"] = budget.spent - sum(spent.values())
    spent_before = budget.spent
    found = [with_early_model(way, work, speed, budget.seconds, spent_before) for way in _ways(job, work, speed)]
    place = choose(found, budget.seconds - spent_before) if found else None
    way = found[place] if found else Way(speed.image_size, 1, None, 0, _tta(job.recipe, work)[0])
    finishing = finishing_seconds(way, work, speed)
    offers = next_steps(found, place, lambda one: budget_for(one, work, speed, spent_before)) if found else []
    plan = {
        "budget_seconds": budget.seconds,
        "spent_seconds": {key: round(value, 3) for key, value in spent.items()},
        "backbone": job.recipe.backbone.name,
        "speed": vars(speed),
        "ranking": ranking,
        "ways": [vars(one) for one in found],
        "chosen": place,
        "finishing_seconds": finishing,
        "more_time": [{"budget_seconds": needed, "allows": one.describe()} for one, needed in offers],
    }
    _say(job, budget, speed, way if found else None)
    until = budget.started + budget.seconds - RESERVE * finishing - LAST
    recipe = _with_way(job, work, way) if found else job.recipe
    return replace(job, recipe=recipe, budget=Planned(budget, plan, audit, way.early, until))


def describe_outcome(plan, stages, best, history, used=None):
    """Say what became of a plan, and what more time would likely have bought.

    Args:
        plan: What `plan.json` holds.
        stages: The run's `Stage`s, as they ended.
        best: The row of what ships: `stage` and `epoch`.
        history: The rows of `history.csv`.
        used: Seconds that the run took; None for one that was resumed.

    Returns:
        Dict of `used_seconds`, `cut_short`, the number of the stage that was or None, and `more_time`, a sentence.
    """
    cut = next((number for number, stage in enumerate(stages) if stage.trained_epochs < stage.epochs), None)
    offers = [
        f"about {format_duration(one['budget_seconds'])} would allow {one['allows']}" for one in plan["more_time"]
    ]
    offers = [*offers[:1], *offers[1:][-1:]]  # the nearest, and what promises most
    more = f"; a budget of {', of '.join(offers)}" if offers else ""
    places = [(row["stage"], row["epoch"]) for row in history]
    place = (best["stage"], best["epoch"])
    if cut is not None:
        text = f"training was cut short in stage {cut}, so what the rest would have gained is not known"
    elif not places:
        text = "the probe is all that the plan had; what more brings is not known" if offers else "nothing was left out"
    elif place not in places:
        text = (
            "training gained nothing over the probe that could be told from chance: more time would likely buy little"
        )
    elif place == places[-1]:
        text = "validation was best in the last epoch: more of them would likely help"
    else:
        text = (
            f"validation was best in epoch {places.index(place) + 1} of {len(places)}: more of them would likely buy "
            "little"
        )
    return {"used_seconds": None if used is None else round(used, 3), "cut_short": cut, "more_time": text + more}


def write_outcome(job, state):
    """Add to a run's `plan.json` what became of the plan, and say it.

    Args:
        job: The `Job`, its run over; one without a plan is left as it is.
        state: Its `tlkit.training.checkpoint.TrainingState`.
    """
    path = job.path / run_folder.PLAN
    if not path.is_file():
        return
    plan = run_folder.read_json(path)
    used = job.budget.budget.spent if job.budget else None
    stages = read_recipe(job.path / run_folder.RECIPE, recorded=True).stages
    outcome = describe_outcome(plan, stages, state.best, state.history, used)
    run_folder.write_json(path, plan | {"outcome": outcome})
    if used is not None:
        job.listener.note(f"budget: {format_duration(used)} of {format_duration(plan['budget_seconds'])} used")
    job.listener.note(f"more time: {outcome['more_time']}")


def _work(job):
    data, recipe = job.data, job.recipe
    counts = {split: len(data.indices(split)) for split in ("train", "val", "test")}
    mixed = recipe.data.mixup or recipe.data.cutmix
    return Work(
        **counts,
        batch_size=min(recipe.data.batch_size, counts["train"]),
        outputs=sum(task.num_outputs for task in data.tasks.values()),
        kept=recipe.training.cache != "off" and recipe.data.views > 0 and not mixed,
    )


def _is_open(recipe):
    """Tell whether the recipe leaves it to the rules how the net is trained."""
    return recipe.stages == "auto" and rules.is_probed(recipe.head)


def _ways(job, work, speed):
    """Return the `Way`s from which the plan chooses; none for a recipe that says itself how the net is trained."""
    recipe = job.recipe
    if not _is_open(recipe):
        return []
    views = recipe.data.views or 1
    views = [views] if "views" in recipe.data.model_fields_set else [views, 1]
    smallest = BUILDABLE[recipe.backbone.name].smallest_image
    stage = work.rule_stage(len(job.ends))
    found = ways(work, speed, stage, views=views, tta=_tta(recipe, work), smallest=smallest)
    return found if recipe.data.image_size == "auto" else [way for way in found if way.image_size == speed.image_size]


def _tta(recipe, work):
    """Return the test-time views whose worth a plan may have measured, what promises most first."""
    if recipe.evaluation.tta != "auto":
        return [recipe.evaluation.tta]
    return [rules.choose_tta("auto", work.val + work.test), "none"]


def _with_way(job, work, way):
    """Return a job's recipe with what a `Way` says."""
    recipe = job.recipe.model_copy(deep=True)
    recipe.data.image_size = way.image_size
    if recipe.data.views:  # 0 is a fresh one in every epoch
        recipe.data.views = way.views
    recipe.evaluation.tta = way.tta
    recipe.stages = []
    if way.unfreeze is not None:
        recipe.stages = [work.rule_stage(len(job.ends)).model_copy(update={"epochs": way.epochs})]
    return recipe


def _audit(job, budget, work, speed):
    """Audit the data as far as time allows; return what it adds to `data.json`."""
    from tlkit.api.audit import audit

    if job.data.images is not None:
        job.listener.note("audit: none, since the images are arrays and not files")
        return {}
    looked_at = speed.at(BUILDABLE[DEFAULT_BACKBONE].image_size)
    facts = len(job.data) * AUDIT_READS * speed.read
    probes = AUDIT_PROBES * len(job.data) * fitting_seconds(work)
    full = job.recipe.backbone.weights == "imagenet" and job.recipe.backbone.name == DEFAULT_BACKBONE
    full = full and facts + probes + speed.build + len(job.data) * looked_at.image <= AUDIT_SHARE * budget.seconds
    if not (full or facts <= QUICK_SHARE * budget.seconds):
        job.listener.note("audit: none, for want of time; `tlkit audit` does it")
        return {}
    found = audit(job.data, quick=not full, listener=job.listener)
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in found.counts().items()) or "nothing found"
    job.listener.note(f"audit{'' if full else ' without features, for want of time'}: {counts}")
    return found.describe()


def _choose_backbone(job, budget, work, speed):
    """Rank the backbones that are at hand; return the job with the best that leaves time for all that the rules do.

    Returns:
        `(job, speed, ranking)`: the latter as `tlkit.api.ranking.Ranking.describe` says it, or None.
    """
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
        if name == job.recipe.backbone.name or MARGIN * _usual(job, budget, work, guess).seconds <= budget.left:
            break
    job.listener.note(f"backbone: {name}, the best of {len(ranking.places)} that leaves time to train it")
    if name != job.recipe.backbone.name:
        recipe = job.recipe.model_copy(deep=True)
        recipe.backbone.name = name
        job = replace(job, recipe=recipe, ends=BUILDABLE[name].block_ends)
        speed = measure(job, work, budget.left)
    return job, speed, ranking.describe()


def _is_worth_ranking(job, budget, work, speed):
    """Tell whether there is time to look at two backbones, one twice as slow, and for what the rules do."""
    images = min(RANKED_IMAGES, work.train + work.val)
    if images < LEAST_RANKED or not _is_open(job.recipe):
        return False
    usual = MARGIN * _usual(job, budget, work, speed).seconds
    return 3 * (speed.build + images * speed.image) <= RANK_SHARE * budget.seconds and usual <= budget.left


def _usual(job, budget, work, speed):
    """Return the `Way` of the rules, at the net's own image size: what a slower net must leave time for."""
    stage = work.rule_stage(len(job.ends))
    epochs = stage.epochs if stage else 0
    wanted = (epochs, speed.image_size)
    way = next(way for way in _ways(job, work, speed) if (way.epochs, way.image_size) == wanted)
    return with_early_model(way, work, speed, budget.seconds, budget.spent)


def _say(job, budget, speed, way):
    step = f", {speed.step:.2f} s a training step" if speed.step else ""
    net = f"{job.recipe.backbone.name} at {speed.image_size} pixels"
    job.listener.note(f"speed: {1000 * speed.image:.1f} ms an image through {net}{step}")
    if way is None:
        job.listener.note("plan: the recipe's own; training ends in time for the report, once there is a model at all")
        return
    job.listener.note(
        f"plan: {way.describe()}; predicted {format_duration(budget.spent + way.seconds)} of "
        f"{format_duration(budget.seconds)}"
    )
    if MARGIN * way.seconds > budget.left:
        job.listener.note("the budget is too short for anything that is known to work; this is the least")
