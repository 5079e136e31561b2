"""The folder of an experiment: what it was asked, what has been measured, what came of it.

    settings.json      what it was asked; written first
    measured/*.json    what has been measured so far
    runs/<variant>-<seed>/    each training, an ordinary run folder
    data/              the images that were chosen, where they came from an archive
    table.csv, chart.png
    experiment.json    settings, versions, all figures, the verdict; written last

Whoever is killed and started again finds what was measured, and goes on with the trainings where they stopped.
"""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tlkit import run as run_folder
from tlkit.errors import RunError, Stopped, Terminated, TlkitError
from tlkit.experiments import find_experiment
from tlkit.experiments.pictures import LAYING_OUT
from tlkit.progress import Listener
from tlkit.recipe import check_recipe

SETTINGS, RESULT, TABLE, CHART = "settings.json", "experiment.json", "table.csv", "chart.png"
DOTS = 130  # per inch of a chart


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes:
        header, rows: The table.
        figures: All that was measured, as plain values.
        verdict: Sentences in plain words, with intervals over seeds.
        draw: Function of an empty `matplotlib.figure.Figure` that draws the chart.
        size: Its width and height in inches.
    """

    header: tuple[str, ...]
    rows: list
    figures: dict
    verdict: str
    draw: Callable
    size: tuple[float, float] = (11, 4.6)


@dataclass(frozen=True)
class Study:
    """An experiment that is under way.

    Attributes:
        experiment: The `Experiment`.
        settings: Dict of its options, `data` among them where it has images.
        path: Its folder.
        listener: Hears what it does.
    """

    experiment: object
    settings: dict
    path: Path
    listener: Listener

    @property
    def seeds(self):
        """The seeds, from 0."""
        return range(self.settings["seeds"])

    def measured(self, name, measure):
        """Return plain values that `measure()` returns, or has returned before.

        Args:
            name: What they are called, as a file's name.
            measure: Function without arguments.
        """
        file = self.path / "measured" / f"{name}.json"
        if file.is_file():
            return run_folder.read_json(file)
        file.parent.mkdir(exist_ok=True)
        value = measure()
        run_folder.write_json(file, value)
        return value

    def trained(self, variant, seed, values, source):
        """Return the completed run of a recipe, continued where it was stopped.

        Args:
            variant: What is trained, as a folder's name.
            seed: Its seed.
            values: The recipe as nested plain values, without the seed.
            source: Images and labels, as for `tlkit.api.load_data`.

        Returns:
            `tlkit.delivery.predict.Run`.
        """
        from tlkit.api import finetune_recipe
        from tlkit.api.resuming import VERSIONS

        recipe = check_recipe(values | {"seed": seed}, where=variant)
        out = self._run_path(variant, seed)
        out.parent.mkdir(exist_ok=True)
        self.listener.note(f"{variant}, seed {seed}")
        # Another number of workers has another number of threads, which the versions include.
        allowed = (VERSIONS,) if "workers" in self.settings else ()
        return finetune_recipe(recipe, source, out=out, resume=True, allow_changed=allowed, listener=self.listener)

    def all_trained(self, planned):
        """Train several recipes, `workers` of them at once where a processor computes.

        Args:
            planned: Dict of `(variant, seed)` to `(values, source)`, as for `trained`; those that take long come first.

        Yields:
            `((variant, seed), run)` of each, in that order.
        """
        from tlkit.api import load_run

        workers = min(self.settings["workers"], len(planned))
        left = [which for which in planned if not run_folder.is_complete(self._run_path(*which))]
        beside = []
        if left and workers > 1 and (threads := self._threads(workers)):
            from tlkit.experiments.side_by_side import train_side_by_side

            beside, trainings = left, [(*which, *planned[which]) for which in left]
            train_side_by_side(self, trainings, min(workers, len(left)), threads)
        for which, what in planned.items():
            yield which, load_run(self._run_path(*which)) if which in beside else self.trained(*which, *what)

    def _threads(self, workers):
        """Return how many threads each of some workers has; none where they would share a graphics processor."""
        from tlkit.training.repeatable import describe_device

        device, threads = describe_device()
        if device == "CPU":
            return max(1, threads // workers)
        self.listener.note(f"one training at a time: they would share {device}")
        return 0

    def _run_path(self, variant, seed):
        return self.path / "runs" / f"{variant}-{seed}"


def run_experiment(name, options=None, *, out=None, listener=None):
    """Do an experiment, or what is left of it.

    Args:
        name: One of `tlkit experiment`.
        options: Dict of `data`, `seeds`, `images`, `epochs`, `workers`, as far as it takes them; None is not given.
        out: Its folder; by default `runs/experiment-NAME`.
        listener: `Listener` for progress and notes; workers have a copy of it.

    Returns:
        Dict as in `experiment.json`, and `path`.

    With several `workers`, as `depth` has by default, a script that calls this needs `if __name__ == "__main__":`.

    Raises:
        Stopped: If a signal asked for it; all that was done is saved.
        TlkitError: In one line, for whatever the user can mend.
    """
    listener = listener or Listener()
    study = open_study(name, options or {}, out, listener)
    if (study.path / RESULT).is_file():
        listener.note(f"{study.path} is complete; another --out measures anew")
        return run_folder.read_json(study.path / RESULT) | {"path": str(study.path)}
    module = import_module(f"tlkit.experiments.{name.replace('-', '_')}")
    if study.experiment.data:
        module.check(study)
    study.path.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(study.path)
    run_folder.write_json(study.path / SETTINGS, {"experiment": name, "settings": study.settings})
    listener.engine_needed()
    try:
        outcome = module.measure(study)
    except (KeyboardInterrupt, Terminated, Stopped) as interruption:
        raise Stopped.after(interruption, f"tlkit experiment {name} --out {shlex.quote(str(study.path))}") from None
    return _write(study, outcome) | {"path": str(study.path)}


def open_study(name, options, out=None, listener=None):
    """Return the `Study` that the options ask for; nothing is written.

    Raises:
        TlkitError: If an option is idle or missing, or the folder is in use for something else.
    """
    experiment = find_experiment(name)
    given = {option: value for option, value in options.items() if value is not None}
    taken = [*experiment.defaults, *(["data"] if experiment.data else [])]
    for option in given:
        if option not in taken:
            raise TlkitError(
                f"--{option}: does nothing in the experiment {name}, which takes "
                f"{', '.join(f'--{one}' for one in taken)}. Leave it out."
            )
    if "data" in given:
        given["data"] = str(Path(given["data"]).expanduser().absolute())
    path = Path(out) if out else Path("runs") / f"experiment-{name}"
    settings = experiment.defaults | _recorded(path, name, given) | given
    if settings["seeds"] < 2:
        raise TlkitError(f"--seeds: expected 2 or more, for intervals over seeds. Received: {settings['seeds']}")
    if experiment.data and "data" not in settings:
        raise TlkitError(f"--data: missing. The experiment {name} needs {experiment.data}.")
    return Study(experiment, settings, path, listener or Listener())


def _recorded(path, name, given):
    """Return the settings of an experiment that the folder holds, checked to be this one; none for a new folder."""
    if path.exists() and not path.is_dir():
        raise RunError(f"--out {path}: expected a folder. Received a file.")
    if not path.is_dir() or not any(not entry.name.startswith(".") for entry in path.iterdir()):
        return {}
    if not (path / SETTINGS).is_file():
        raise RunError(f"--out {path}: the folder is not empty, and holds no experiment. Choose another folder.")
    begun = run_folder.read_json(path / SETTINGS)
    if begun["experiment"] != name:
        raise RunError(f"--out {path}: holds the experiment {begun['experiment']}. Choose another folder.")
    recorded = begun["settings"]
    deciding = [option for option in given if option != "workers"]
    differing = [f"--{option} {recorded.get(option)}" for option in deciding if given[option] != recorded.get(option)]
    if differing:
        raise RunError(
            f"--out {path}: holds this experiment with {', '.join(differing)}. Leave the options out to go on with it, "
            "or choose another folder."
        )
    return recorded


def _clear_leftovers(path):
    """Remove what a write that was killed left behind, and nothing else that is hidden: a folder may be a checkout."""
    for entry in [*path.glob(".*.tmp*"), *path.glob("measured/.*.tmp*")]:
        entry.unlink()
    for entry in path.glob(f"{LAYING_OUT}*"):
        shutil.rmtree(entry)


def _write(study, outcome):
    """Write table, chart and result; return the result."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    from tlkit.training.repeatable import describe_device

    run_folder.write_csv(study.path / TABLE, outcome.header, outcome.rows)
    figure = Figure(figsize=outcome.size, layout="constrained")
    FigureCanvasAgg(figure)
    outcome.draw(figure)
    with run_folder.atomic_path(study.path / CHART) as temporary:
        figure.savefig(temporary, dpi=DOTS, format="png")
    device, threads = describe_device()
    result = {
        "experiment": study.experiment.name,
        "claim": study.experiment.claim,
        "verdict": outcome.verdict,
        "settings": study.settings,
        "seeds": list(study.seeds),
        "table": {"header": list(outcome.header), "rows": [list(row) for row in outcome.rows]},
        "figures": outcome.figures,
        "environment": run_folder.describe_environment(0, threads) | {"seed": list(study.seeds), "device": device},
    }
    run_folder.write_json(study.path / RESULT, result)
    return result
