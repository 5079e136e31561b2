"""The search for better settings: trials on one feature pass, the best retrained and held against the default."""

import shlex
import signal
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.api import _make_job, finetune_recipe
from tlkit.catalog import BUILDABLE
from tlkit.data.index import subset
from tlkit.errors import RecipeError, RunError, Stopped, Terminated, TlkitError
from tlkit.progress import Listener
from tlkit.recipe import check_recipe, read_recipe, set_keys
from tlkit.search.journal import Journal
from tlkit.search.oracles import ORACLES, Oracle
from tlkit.search.space import SPACES, check_space
from tlkit.search.trials import DONE, FAILED, PRUNED, Answer, Trials, is_hopeless
from tlkit.search.workers import work_in_processes
from tlkit.training import rules

SETTINGS, JOURNAL, TRIALS, RUNS = "search.json", "journal.jsonl", "trials", "runs"
RESULT, BEST, ERROR = "tuning.json", "best.toml", "error.txt"


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
    settings and the recipe's own are trained with several seeds and compared on the test images.

    Args:
        recipe: `Recipe`; its `tune` table says which keys are searched, by default those of `space`.
        source: As for `load_data`.
        trials: Number of trials.
        oracle: `"random"`, `"bayesian"` or `"hyperband"`.
        space: `"head"`: what lies above the frozen layers; `"full"`: also what is unfrozen, views and augmentation.
        seeds: Runs of either recipe that are compared at the end; 0 for none.
        workers: Number of processes that make trials; what they find may differ in the last bits from what one finds,
            since each has its share of the threads.
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
    job = _make_job(recipe, source, listener, cache_size)
    base = _with_one_stage(job, "head" if space == "head" and not recipe.tune else "auto")
    ranges = recipe.tune or SPACES[space]
    check_space(ranges, lambda settings: _with_settings(base, settings))
    path = _open_folder(recipe, job, out, resume, {"trials": trials, "oracle": oracle, "space": space, "seeds": seeds})
    listener.note(f"search: {path}")
    listener.engine_needed()
    epochs = base.stages[-1].epochs
    search = Trials(Oracle(oracle, ranges, trials, recipe.seed, epochs), Journal(path / JOURNAL))
    try:
        own = _work(search, (recipe, base, source, cache_size, path), job, trials, workers, listener)
        return _finish(search, own, path, (_without_ranges(recipe), base), source, seeds, cache_size, listener)
    except (KeyboardInterrupt, Terminated, Stopped) as interruption:
        status = {KeyboardInterrupt: 128 + signal.SIGINT, Terminated: 128 + signal.SIGTERM}
        number = status.get(type(interruption)) or interruption.status
        raise Stopped(number - 128, f"tlkit tune --resume --out {shlex.quote(str(path))}") from None


def _with_one_stage(job, choice):
    """Return the recipe with explicit stages, at least one, so that a search can set their keys.

    Where the recipe leaves them open they are those of a `choice` of `tlkit.training.rules.choose_stages`.
    """
    recipe = _without_ranges(job.recipe)
    if not isinstance(recipe.stages, str) and recipe.stages:
        return recipe
    images, blocks = len(job.data.indices("train")), len(BUILDABLE[recipe.backbone.name].block_ends)
    word = recipe.stages if isinstance(recipe.stages, str) and recipe.stages != "auto" else choice
    size = min(recipe.data.batch_size, images)
    recipe.stages = rules.choose_stages(word, images, blocks, size, probed=True) or rules.choose_stages(
        "head", images, blocks, size, probed=True
    )
    return recipe


def _with_settings(recipe, settings, epochs=None):
    """Return a recipe with some keys set; `epochs` are those of the last stage."""
    values = recipe.model_dump()
    set_keys(values, settings)
    if epochs is not None:
        values["stages"][-1]["epochs"] = epochs
    return check_recipe(values, where="tune")


def _open_folder(recipe, job, out, resume, settings):
    """Make the search's folder, or check that it holds this search; return its path."""
    settings |= {"data": job.data.fingerprint, "source": job.data.source}
    exists = resume and out and (Path(out) / SETTINGS).is_file()
    if not exists:
        path = run_folder.new_run_path(f"tune-{recipe.backbone.name}", Path(job.data.source).stem, out)
        path.mkdir(parents=True, exist_ok=True)
        run_folder.write_text(path / run_folder.RECIPE, recipe.to_toml())
        run_folder.write_json(path / SETTINGS, settings)
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
    recipe, base, _, _, path = arguments
    bench = Bench(job, base, path)
    own = bench.make_own(recipe)
    listener.note(f"the recipe's own settings: score {own:.4f}")

    def say(proposal, answer):
        listener.note(_describe(proposal, answer, trials))

    if workers > 1:
        threads = max(1, run_folder.usable_cpus() // workers)
        work_in_processes(search, start_bench, (*arguments, _Quiet(listener)), workers, threads, say)
        return own
    while (proposal := search.next()) is not None:
        answer = bench.make(proposal, search.known(proposal.number))
        search.answer(proposal.number, answer)
        say(proposal, answer)
    return own


def start_bench(recipe, base, source, cache_size, path, listener):
    """Return what makes trials in a worker: `Bench.make`."""
    return Bench(_make_job(recipe, source, listener, cache_size), base, path).make


class _Quiet(Listener):
    """Tells another listener only that the engine is about to be loaded."""

    def __init__(self, listener):
        self._listener = listener

    def engine_needed(self):
        self._listener.engine_needed()


class Bench:
    """Makes trials, one after the other, in one process.

    Args:
        job: The `Job` of the search's recipe.
        base: The `Recipe` whose keys the trials set.
        path: The search's folder.
    """

    def __init__(self, job, base, path):
        seen = np.flatnonzero(job.data.split != "test")
        self._job, self._base, self._path = job, base, path
        self._data = subset(job.data, seen)
        self._by_loss = base.training.monitor == "loss"

    def make(self, proposal, known):
        """Make a trial, or what is left of it.

        Args:
            proposal: Its `Proposal`.
            known: Curves of earlier trials, as from `Trials.known`.

        Returns:
            Its `Answer`.
        """
        started, path = time.monotonic(), self._path / TRIALS / f"{proposal.number:03}"
        curve = _Curve(known, self._score)
        try:
            recipe = _with_settings(self._base, proposal.settings, proposal.epochs)
            job = self._open(recipe, proposal.number, path, curve)
            curve.epochs = sum(stage.epochs for stage in job.recipe.stages)
            score, status, reason = self._score(job.run_trial()), DONE, ""
        except _Hopeless:
            score, status, reason = curve.best[-1], PRUNED, f"below the median after epoch {len(curve.best)}"
        except Exception as error:  # whatever a trial's settings bring about ends that trial, not the search
            score, status, reason = None, FAILED, f"{type(error).__name__}: {error}"
            path.mkdir(parents=True, exist_ok=True)
            run_folder.write_text(path / ERROR, traceback.format_exc())
        return Answer(status, score, curve.best, round(time.monotonic() - started, 3), reason)

    def make_own(self, recipe):
        """Make a trial of the recipe's own settings; return its score."""
        return self._score(self._open(_without_ranges(recipe), 0, self._path / TRIALS / "own", Listener()).run_trial())

    def _open(self, recipe, number, path, listener):
        """Return the opened `Job` of a trial: seeded by its number, with the views and the split of all."""
        seed = self._base.seed
        recipe.seed = (seed + number) % 2**32
        recipe.data.split_seed = recipe.data.view_seed = seed
        job = replace(self._job, recipe=recipe, data=self._data, listener=listener)
        return replace(job, resume_path=self._path, command="tune").resolve().open(path, resume=True)

    def _score(self, row):
        return -row["val_loss"] if self._by_loss else row["val_accuracy"]


class _Hopeless(Exception):  # noqa: N818 - no error: the trial is given up
    """The trial will not be among the better ones."""


class _Curve(Listener):
    """Hears a trial's epochs, and ends it where it is hopeless.

    Attributes:
        best: Its best score up to each epoch.
        epochs: How many there will be.
    """

    def __init__(self, known, score):
        self._known, self._score = known, score
        self.best, self.epochs = [], 0

    def training_resumed(self, history):
        for row in history:
            self._add(row)

    def epoch_done(self, row, is_best):
        self._add(row)
        if is_hopeless(self._known, self.best, self.epochs):
            raise _Hopeless

    def _add(self, row):
        self.best.append(max([self._score(row), *self.best[-1:]]))


def _describe(proposal, answer, trials):
    score = "" if answer.score is None else f"  score {answer.score:.4f}"
    reason = f" ({answer.reason})" if answer.reason else ""
    return f"trial {proposal.number + 1:>2}/{trials}{score}  {answer.seconds:.1f} s  {answer.status}{reason}"


def _finish(search, own, path, recipes, source, seeds, cache_size, listener):
    """Write the best recipe, compare it with the original on test images, and write the result; return the `Tuning`."""
    original, base = recipes
    if search.best is None:
        raise TlkitError(f"tune: no trial came to its end. The first: {search.answers[0].reason}")
    result = _describe_search(search, own)
    best = original if result["best"] is None else _with_settings(base, result["settings"])
    if result["best"] is None:
        result["verdict"] = "tuning gained nothing: no trial validated better than the recipe's own settings"
    elif seeds:
        result |= _compare(path, {"default": original, "best": best}, source, seeds, cache_size, listener)
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
            {"trial": number, "settings": search.proposals[number].settings, **vars(answer)}
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
    """Say what tuning gained, by the first task's figure."""
    task = next(iter(comparison["tasks"].values()))
    found = task["recipes"][1] if seeds > 1 else task["runs"][1]
    difference, p = found["difference"], found["p"]
    where = f"on {task['n']} {comparison['split']} images, {seeds} seeds each"
    low, high = difference["interval"]
    unit, scale = ("points", 100) if task["metric"] != "mae" else ("", 1)
    gain = f"{scale * difference['gain']:+.1f} {unit} [{scale * low:.1f}, {scale * high:.1f}]".replace("  ", " ")
    if p < 0.05:
        return f"tuning {'gained' if difference['gain'] > 0 else 'lost'} {gain} {where}, p {p:.2g}"
    return f"tuning gained nothing that could be told from chance: {gain} {where}, p {p:.2g}"


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
    settings.pop("data")
    return read_recipe(path / run_folder.RECIPE), source, settings
