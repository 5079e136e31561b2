"""The search for better settings: trials on one feature pass, the best retrained and held against the original."""

import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api import _make_job
from tlkit.api.budgeting import Budget
from tlkit.api.gain import compare_on_test, nested_gain
from tlkit.api.resuming import VERSIONS, changed_versions, check_allowed, record_changes
from tlkit.api.search_time import SearchTime
from tlkit.api.searching import JOURNAL, Setup, work
from tlkit.api.trials import FOLDS, Division, try_settings, with_memory, with_settings
from tlkit.errors import RecipeError, RunError, Stopped, Terminated, TlkitError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.search.journal import Journal
from tlkit.search.oracles import ORACLES
from tlkit.search.space import SPACES, check_space, default_space
from tlkit.training import rules

TRIALS, MOST_TRIALS = 30, 1000  # by default, and within a budget
FEW_IMAGES = 500  # besides those for testing, below which one split says too little
SETTINGS, RESULT, BEST = run_folder.SEARCH, "tuning.json", "best.toml"


@dataclass(frozen=True)
class Tuning:
    """A search that is over.

    Attributes:
        path: Its folder.
        result: What `tuning.json` holds: `trials`, `own_score` of the recipe's own settings, the number of the `best`
            trial (None if none beats those) and its `settings`, `comparison`, `verdict`, `nested` where it was done,
            and `budget`, None where there was none.
    """

    path: Path
    result: dict

    @property
    def recipe(self):
        """The path of the best recipe."""
        return self.path / BEST


def tune(
    recipe,
    source,
    *,
    trials=None,
    oracle="random",
    space="head",
    seeds=3,
    workers=1,
    budget=None,
    nested=None,
    out=None,
    resume=False,
    allow_changed=(),
    cache_size=None,
    listener=None,
):
    """Search for settings that validate better than a recipe's, and say whether they are better on the test images.

    Every trial is a run folder, trained on the training images and judged on the validation images by the figure that
    `training.monitor` names; no trial sees a test image. Trials show the same training views, so that they share the
    feature pass. Those whose best epoch so far is below the median of earlier trials are given up. At the end the best
    settings and the recipe's own are trained with several seeds and compared on the test images, if there are any.

    Args:
        recipe: `Recipe`; its `tune` table says which keys are searched, by default those of `space`.
        source: As for `load_data`.
        trials: Number of trials, by default 30, or as many as the budget allows; fewer where the ranges have no more
            to offer.
        oracle: `"random"`, `"bayesian"` or `"hyperband"`, which sets the epochs of the last stage itself.
        space: `"head"`: what lies above the frozen layers; `"full"`: also what is unfrozen, views and augmentation.
        seeds: Runs of either recipe that are compared at the end; 0 for none.
        workers: Number of processes that make trials. Each has its share of the threads, which changes last bits; and
            which answers are there when a trial is asked for hangs on their speed, and on those what is given up, and
            what an oracle that learns proposes. A script that asks for several must do so under
            `if __name__ == "__main__":`, since each process imports it.
        budget: Seconds, or a `tlkit.api.budgeting.Budget`, after which all is over: trials end in time for the runs
            that are compared, which take half of it at most; there are fewer of these if need be. What was decided by
            the clock is recorded, so that a search that is taken up again goes the same way.
        nested: Whether the whole search is done anew in each of five folds of the images that aren't for testing, which
            says what tuning is worth on images that it has not chosen by; by default if they are fewer than 500.
        out: The search's folder; by default a new one under `runs/`.
        resume: Go on with the search in `out`; whatever it has done is not done again.
        allow_changed: `["versions"]` to go on with other versions of libraries or another machine than it began with,
            which its `environment.json` records. Trials of other recipes or data couldn't be compared.
        cache_size: Most bytes that features may take on disk.
        listener: `Listener` for progress and notes; with several workers one that can be pickled.

    Returns:
        `Tuning`.

    Raises:
        TlkitError: In one line, for whatever the user can mend.
    """
    listener = listener or Listener()
    if oracle not in ORACLES or space not in SPACES:
        raise RecipeError(f"tune: expected an oracle of {', '.join(ORACLES)} and a space of {', '.join(SPACES)}.")
    if recipe.data.folds:
        raise RecipeError("`data.folds`: a search has one validation split. Leave it out.")
    if check_allowed(allow_changed) - {VERSIONS}:
        raise RecipeError(f"--allow-changed: a search can go on with other {VERSIONS} only. Start a new one.")
    budget = Budget(budget) if isinstance(budget, int | float) else budget
    trials = trials or (MOST_TRIALS if budget else TRIALS)
    job = replace(_make_job(recipe, source, listener, cache_size), allowed=frozenset(allow_changed))
    base = _with_one_stage(job, "head" if space == "head" and not recipe.tune else "auto")
    ranges = _ranges(recipe, base, job, space, oracle)
    check_space(ranges, partial(try_settings, job, base))
    nested = _is_nested(job, nested, listener)
    settings = {"trials": trials, "oracle": oracle, "space": space, "seeds": seeds, "nested": nested}
    path = _open_folder(recipe, job, out, resume, settings | {"budget": budget.seconds if budget else None})
    listener.note(f"search: {path}")
    listener.engine_needed()
    journal = Journal(path / JOURNAL)
    try:
        _heed_versions(path, recipe.seed, job.allowed)
        job = with_memory(job)
        setup = Setup(job, _without_ranges(recipe), base, source, oracle, ranges, trials, workers, path, listener)
        search = setup.trials(journal)
        seeds = seeds if len(job.data.indices("test")) else 0
        timing = SearchTime(search, budget, seeds, workers, nested)
        own, _ = work(setup, search, path, Division(shared=nested), timing)
        return _finish(setup, search, own, timing)
    except (KeyboardInterrupt, Terminated, Stopped) as interruption:
        size = "" if cache_size is None else f" --cache-size {cache_size}"
        resume = f"tlkit tune --resume --out {shlex.quote(str(path))}{recipe.head.as_option}{size}"
        raise Stopped.after(interruption, resume) from None
    finally:
        journal.close()


def _ranges(recipe, base, job, space, oracle):
    """Return the ranges to search: the recipe's, or those of a default space that mean something for it."""
    ranges = recipe.tune or default_space(
        space,
        classes=any(task.kind != "regression" for task in job.data.tasks.values()),
        own_head=not (recipe.head.custom or recipe.head.original),
        blocks=len(job.ends),
    )
    epochs = f"stages.{len(base.stages) - 1}.epochs"
    if oracle == "hyperband" and epochs in ranges:
        if recipe.tune:
            raise RecipeError(f"`tune.{epochs}`: Hyperband sets the epochs itself. Leave the key out.")
        ranges = {key: span for key, span in ranges.items() if key != epochs}
    return ranges


def _is_nested(job, nested, listener):
    """Tell whether the search is to be done in folds, too, where that is left open or was asked for."""
    images = len(job.data) - len(job.data.indices("test"))
    if nested is False or (nested is None and images >= FEW_IMAGES):
        return False
    try:
        for fold in range(FOLDS):
            data = Division(fold).of(job.data, job.recipe.seed)
            replace(job, data=data, listener=Listener()).resolve()
    except TlkitError as error:
        if nested:
            raise
        listener.note(f"no nested cross-validation: {error}")
        return False
    return True


def _with_one_stage(job, choice):
    """Return the recipe with explicit stages, at least one, so that a search can set their keys.

    Where the recipe leaves them open they are those of a `choice` of `tlkit.training.rules.choose_stages`.
    """
    recipe = _without_ranges(job.recipe)
    if not isinstance(recipe.stages, str) and recipe.stages:
        recipe.stages = [stage.model_copy(update={"stop_after": "never"}) for stage in recipe.stages]
        return recipe
    images, blocks = len(job.data.indices("train")), len(job.ends)
    word = recipe.stages if isinstance(recipe.stages, str) and recipe.stages != "auto" else choice
    size = min(recipe.data.batch_size, images)
    recipe.stages = rules.choose_stages(word, images, blocks, size, probed=True) or rules.choose_stages(
        "head", images, blocks, size, probed=True
    )
    return recipe


def _open_folder(recipe, job, out, resume, settings):
    """Make the search's folder, or check that it holds this search; return its path."""
    settings |= {"data": job.data.fingerprint, "source": job.data.source}
    exists = resume and out and (Path(out) / SETTINGS).is_file()
    if not exists:
        path = run_folder.new_run_path(f"tune-{recipe.backbone.name}", Path(job.data.source).stem, out)
        with run_folder.made_whole(path) as begun:
            run_folder.write_text(begun / run_folder.RECIPE, recipe.to_toml())
            run_folder.write_json(begun / SETTINGS, settings)
        return path
    path = Path(out)
    recorded = run_folder.read_json(path / SETTINGS)
    differing = [key for key in settings if settings[key] != recorded.get(key)]
    if read_recipe(path / run_folder.RECIPE, recorded=True) != recipe:
        differing.append("recipe")
    if differing:
        raise RunError(
            f"{path}: this search differs in {', '.join(differing)}. Give --resume with --out alone, or choose another "
            "--out."
        )
    return path


def _heed_versions(path, seed, allowed):
    """Record the engine and the machine that a search begins with; refuse others later on, or record them, too."""
    from tlkit.training.repeatable import describe_device

    device, threads = describe_device()
    now = run_folder.describe_environment(seed, threads) | {"device": device}
    if not (path / run_folder.ENVIRONMENT).exists():
        run_folder.write_json(path / run_folder.ENVIRONMENT, now)
    elif changed := changed_versions(path, now, allowed):
        record_changes(path, now, {VERSIONS: changed}, {})


def _finish(setup, search, own, timing):
    """Write the best recipe, say what it has gained, and write the result; return the `Tuning`."""
    if search.best is None and search.answers:
        raise TlkitError(f"tune: no trial came to its end. The first: {search.answers[0].reason}")
    result, best = _describe_search(search, own), setup.recipe
    if not search.answers:
        result["verdict"] = "there was no time for a trial"
    elif result["best"] is None:
        result["verdict"] = "tuning gained nothing: no trial validated better than the recipe's own settings"
    else:
        best = with_settings(setup.base, result["settings"], search.proposals[result["best"]].epochs)
        if not len(setup.job.data.indices("test")):
            result["verdict"] = (
                "whether the best settings are better can't be said: there are no test images, and the validation "
                "images chose them"
            )
        elif seeds := timing.compared_seeds(search.answers[result["best"]].seconds):
            result |= compare_on_test(setup, best, seeds)
        elif timing.asked:
            result["verdict"] = "whether the best settings are better can't be said: no time was left to compare them"
    run_folder.write_text(setup.path / BEST, best.to_toml())
    if timing.nested and search.answers:
        try:
            result["nested"] = nested_gain(setup, search, timing)
        except TlkitError as error:  # of a fold; the search itself is over
            setup.listener.note(f"no nested cross-validation: {error}")
    result["budget"] = timing.describe()
    run_folder.write_json(setup.path / RESULT, result)
    return Tuning(setup.path, result)


def _without_ranges(recipe):
    return recipe.model_copy(update={"tune": {}}, deep=True)


def _describe_search(search, own):
    """Return what `tuning.json` says of the trials; `own` is the score of the recipe's own settings."""
    best = search.best if search.answers and search.answers[search.best].score > own else None
    return {
        "trials": [
            {
                "trial": number,
                "settings": search.proposals[number].settings,
                "epochs": search.proposals[number].epochs,
                **vars(answer),
            }
            for number, answer in sorted(search.answers.items())
        ],
        "own_score": own,
        "best": best,
        "settings": {} if best is None else search.proposals[best].settings,
    }


def recorded_settings(out, head=None):
    """Return the recipe, the source and the settings of the search in `out`, to go on with it.

    Args:
        out: Its folder.
        head: `module:function`, for a search whose recipe names one.

    Raises:
        RunError: If it holds no search.
        RecipeError: If its recipe names a head that isn't given.
    """
    path = Path(out)
    if not (path / SETTINGS).is_file():
        raise RunError(f"--out {path}: holds no search. Leave out --resume to begin one there.")
    settings = run_folder.read_json(path / SETTINGS)
    source = settings.pop("source")
    if source == "arrays":
        raise RunError(f"{path}: the search is on arrays; go on with it from Python.")
    settings.pop("data")
    given = {"head.custom": head} if head else {}
    return read_recipe(path / run_folder.RECIPE, (), given), source, settings
