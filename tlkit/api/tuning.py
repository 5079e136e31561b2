"""The search for better settings: trials on one feature pass, the best retrained and held against the original."""

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api import _make_job, finetune_recipe
from tlkit.api.trials import Bench, start_bench, try_settings, with_settings
from tlkit.errors import RecipeError, RunError, Stopped, Terminated, TlkitError
from tlkit.evaluation.compare import SIGNIFICANT
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.search.journal import Journal
from tlkit.search.oracles import ORACLES, Oracle
from tlkit.search.space import SPACES, check_space, default_space
from tlkit.search.trials import Trials
from tlkit.search.workers import work_in_processes
from tlkit.training import rules

SETTINGS, JOURNAL, RUNS, RESULT, BEST = "search.json", "journal.jsonl", "runs", "tuning.json", "best.toml"


@dataclass(frozen=True)
class Tuning:
    """A search that is over.

    Attributes:
        path: Its folder.
        result: What `tuning.json` holds: `trials`, `own_score` of the recipe's own settings, the number of the `best`
            trial (None if none beats those) and its `settings`, `comparison` and `verdict`.
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
    trials=30,
    oracle="random",
    space="head",
    seeds=3,
    workers=1,
    out=None,
    resume=False,
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
        trials: Number of trials; fewer where the ranges have no more to offer.
        oracle: `"random"`, `"bayesian"` or `"hyperband"`, which sets the epochs of the last stage itself.
        space: `"head"`: what lies above the frozen layers; `"full"`: also what is unfrozen, views and augmentation.
        seeds: Runs of either recipe that are compared at the end; 0 for none.
        workers: Number of processes that make trials. Each has its share of the threads, which changes last bits; and
            which answers are there when a trial is asked for hangs on their speed, and on those what is given up, and
            what an oracle that learns proposes. A script that asks for several must do so under
            `if __name__ == "__main__":`, since each process imports it.
        out: The search's folder; by default a new one under `runs/`.
        resume: Go on with the search in `out`; whatever it has done is not done again.
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
    job = _make_job(recipe, source, listener, cache_size)
    base = _with_one_stage(job, "head" if space == "head" and not recipe.tune else "auto")
    ranges = _ranges(recipe, base, job, space, oracle)
    check_space(ranges, partial(try_settings, job, base))
    path = _open_folder(recipe, job, out, resume, {"trials": trials, "oracle": oracle, "space": space, "seeds": seeds})
    listener.note(f"search: {path}")
    listener.engine_needed()
    journal = Journal(path / JOURNAL)
    try:
        search = Trials(Oracle(oracle, ranges, trials, recipe.seed, base.stages[-1].epochs), journal)
        own = _work(search, (base, source, cache_size, path), job, trials, workers, listener)
        return _finish(search, own, path, (_without_ranges(recipe), base), job, source, seeds, listener)
    except (KeyboardInterrupt, Terminated, Stopped) as interruption:
        size = "" if cache_size is None else f" --cache-size {cache_size}"
        raise Stopped.after(interruption, f"tlkit tune --resume --out {shlex.quote(str(path))}{size}") from None
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


def _with_one_stage(job, choice):
    """Return the recipe with explicit stages, at least one, so that a search can set their keys.

    Where the recipe leaves them open they are those of a `choice` of `tlkit.training.rules.choose_stages`.
    """
    recipe = _without_ranges(job.recipe)
    if not isinstance(recipe.stages, str) and recipe.stages:
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
    if read_recipe(path / run_folder.RECIPE) != recipe:
        differing.append("recipe")
    if differing:
        raise RunError(
            f"{path}: this search differs in {', '.join(differing)}. Give --resume with --out alone, or choose another "
            "--out."
        )
    return path


def _work(search, arguments, job, trials, workers, listener):
    """Make all trials that are left; return the score of the recipe's own settings.

    Args:
        search: `Trials`.
        arguments: Of `start_bench`, but for the listener.
        job: The `Job` of the search's recipe.
        trials, workers, listener: As for `tune`.
    """
    base, _, _, path = arguments
    bench = Bench(job, base, path)
    own = bench.make_own(job.recipe)
    listener.note(f"the recipe's own settings: score {own:.4f}")

    def say(proposal, answer):
        bench.forget(proposal.number)
        listener.note(_describe(proposal, answer, trials))

    if workers > 1:
        threads = max(1, run_folder.usable_cpus() // workers)
        work_in_processes(search, start_bench, (*arguments, listener), workers, threads, say)
        return own
    while (proposal := search.next()) is not None:
        answer = bench.make(proposal, search.known(proposal.number))
        search.answer(proposal.number, answer)
        say(proposal, answer)
    return own


def _describe(proposal, answer, trials):
    score = "" if answer.score is None else f"  score {answer.score:.4f}"
    reason = f" ({answer.reason})" if answer.reason else ""
    return f"trial {proposal.number + 1:>2}/{trials}{score}  {answer.seconds:.1f} s  {answer.status}{reason}"


def _finish(search, own, path, recipes, job, source, seeds, listener):
    """Write the best recipe, compare it with the original on test images, and write the result; return the `Tuning`."""
    original, base = recipes
    if search.best is None:
        raise TlkitError(f"tune: no trial came to its end. The first: {search.answers[0].reason}")
    result, best = _describe_search(search, own), original
    if result["best"] is None:
        result["verdict"] = "tuning gained nothing: no trial validated better than the recipe's own settings"
    else:
        best = with_settings(base, result["settings"], search.proposals[result["best"]].epochs)
        if not len(job.data.indices("test")):
            result["verdict"] = (
                "whether the best settings are better can't be said: there are no test images, and the validation "
                "images chose them"
            )
        elif seeds:
            result |= _compare(path, {"default": original, "best": best}, source, seeds, job.cache_size, listener)
    run_folder.write_text(path / BEST, best.to_toml())
    run_folder.write_json(path / RESULT, result)
    return Tuning(path, result)


def _without_ranges(recipe):
    return recipe.model_copy(update={"tune": {}}, deep=True)


def _describe_search(search, own):
    """Return what `tuning.json` says of the trials; `own` is the score of the recipe's own settings."""
    best = search.best if search.answers[search.best].score > own else None
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


def _compare(path, recipes, source, seeds, cache_size, listener):
    """Train both recipes with several seeds; return `comparison` by task, and the `verdict` in words."""
    from tlkit.api.compare import compare

    folders = []
    for name, recipe in recipes.items():
        for number in range(seeds):
            seeded = recipe.model_copy(deep=True)
            if seeded.data.split_seed == "auto":
                seeded.data.split_seed = recipe.seed
            seeded.seed = (recipe.seed + number) % 2**32
            out = path / RUNS / f"{name}-{number}"
            listener.note(f"{name} settings, seed {seeded.seed}")
            finetune_recipe(seeded, source, out=out, resume=True, cache_size=cache_size, listener=listener)
            folders.append(out)
    comparison = compare(folders).as_dict()
    return {"comparison": comparison, "verdict": _verdict(comparison, seeds)}


def _verdict(comparison, seeds):
    """Say what tuning gained, by the figure of the first task of which anything can be said."""
    for name, task in comparison["tasks"].items():
        rows = task["recipes"] if seeds > 1 else task["runs"]
        if len(rows) < 2 or rows[1]["difference"]["gain"] is None:
            continue
        difference, p = rows[1]["difference"], rows[1]["p"]
        of = "" if name == "label" else f" in {name}"
        where = f"{of} on {task['n']} {comparison['split']} images, {seeds} seeds each, p {p:.2g}"
        numbers = (difference["gain"], *difference["interval"])
        if task["metric"] == "mae":
            gain, low, high = (f"{number:+.3g}" for number in numbers)
        else:
            gain, low, high = (f"{100 * number:+.1f}" for number in numbers)
            gain += " points"
        if p >= SIGNIFICANT:
            return f"tuning gained nothing that could be told from chance: {gain} [{low}, {high}]{where}"
        return (
            f"tuning {'made it better' if difference['gain'] > 0 else 'made it worse'}: {gain} [{low}, {high}]{where}"
        )
    return "nothing can be said of the test images: none of them has a label that could be compared"


def recorded_settings(out):
    """Return the recipe, the source and the settings of the search in `out`, to go on with it.

    Raises:
        RunError: If it holds no search.
    """
    path = Path(out)
    if not (path / SETTINGS).is_file():
        raise RunError(f"--out {path}: holds no search. Leave out --resume to begin one there.")
    settings = run_folder.read_json(path / SETTINGS)
    source = settings.pop("source")
    if source == "arrays":
        raise RunError(f"{path}: the search is on arrays; go on with it from Python.")
    settings.pop("data")
    return read_recipe(path / run_folder.RECIPE), source, settings
