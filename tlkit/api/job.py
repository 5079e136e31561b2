"""One run from its recipe to its metrics: the order in which a run folder comes to be."""

import shutil
import tempfile
import time
from pathlib import Path

from tlkit import run as run_folder
from tlkit.catalog import BACKBONES
from tlkit.data.augment import INTERPOLATION
from tlkit.data.describe import describe_data
from tlkit.errors import RunError
from tlkit.evaluation.metrics import split_metrics, wilson_interval
from tlkit.recipe import read_recipe
from tlkit.training.schedule import auto_stages

# Below this many images a test split of 15 % gives an interval too wide to compare two models with.
FEW_IMAGES = 500


def resolve(recipe, data, num_blocks):
    """Return the recipe with every automatic choice made, so that it repeats the run wherever it is read.

    Args:
        recipe: `Recipe`.
        data: `tlkit.data.index.Data`.
        num_blocks: Number of blocks of the backbone.
    """
    values = recipe.model_copy(deep=True)
    if values.data.image_size == "auto":
        values.data.image_size = BACKBONES[values.backbone.name].image_size
    num_images = len(data.indices("train"))
    values.data.batch_size = min(values.data.batch_size, num_images)
    if values.stages == "auto":
        values.stages = auto_stages(num_images, num_blocks, values.data.batch_size)
    if values.backbone.weights not in {"imagenet", "none"}:
        values.backbone.weights = str(Path(values.backbone.weights).absolute())
    return values


def describe_in_words(data, folds):
    """Return lines for the screen: what the data are, what was left out, and how much a test on them can say."""
    counts = ", ".join(f"{split} {count:,}" for split, count in data.counts().items())
    lines = [f"{len(data):,} images, {', '.join(_describe_task(*item) for item in data.tasks.items())}: {counts}"]
    if data.findings:
        first = data.findings[0]
        lines.append(f"{len(data.findings)} findings in the data; the first: {first['path']}: {first['problem']}")
        lines.append(f"`tlkit audit {data.source}` and data.json name them all")
    if len(data) < FEW_IMAGES and not folds:
        split = primary_split(data)
        count = len(data.indices(split))
        low, high = wilson_interval(round(0.9 * count), count)
        width = round(100 * (high - low))
        wide = f"{count} {split} images: the 95 % interval will be some {width} points wide"
        lines.append(f"{wide}; --folds 5 tests all {len(data)}")
    return lines


def _describe_task(name, task):
    return f"{len(task.classes)} classes" + ("" if name == "label" else f" of {name}")


def open_folder(recipe, data, out, resume):
    """Make the run folder and write what is known before training, or check that `out` holds this very run.

    Returns:
        The folder's path.

    Raises:
        RunError: If the folder is in use for something else, or its recipe or data differ.
    """
    if resume and out and (Path(out) / run_folder.RECIPE).is_file():
        path = Path(out)
        _refuse_another_run(path, recipe, data)
        return path
    path = run_folder.new_run_path(recipe.backbone.name, Path(data.source).stem, out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".starting-", dir=path.parent) as temporary:
            begun = Path(temporary) / path.name
            begun.mkdir()
            run_folder.write_json(begun / run_folder.DATA, describe_data(data))
            _write_splits(begun / run_folder.SPLITS, data)
            run_folder.write_text(begun / run_folder.RECIPE, recipe.to_toml())
            begun.replace(path)  # so that a run folder exists whole or not at all
    except OSError as error:
        raise RunError(f"{path}: can't write the run folder: {error.strerror}. Choose another with --out.") from None
    return path


def execute(path, recipe, data, model, ends, listener):
    """Train, evaluate and write everything that a run folder holds; go on from its checkpoint if there is one.

    Args:
        path: The run folder, as `open_folder` made it.
        recipe: The resolved recipe.
        data: `tlkit.data.index.Data`.
        model: `keras.Model` from images to probabilities, freshly built; trained in place.
        ends: Names of its block ends.
        listener: `Listener`.
    """
    from tlkit.training.repeatable import describe_device

    started = time.monotonic()
    device, threads = describe_device()
    if not (path / run_folder.ENVIRONMENT).exists():
        environment = run_folder.describe_environment(recipe.seed, threads) | {"device": device}
        run_folder.write_json(path / run_folder.ENVIRONMENT, environment)
    state = _train(path, recipe, data, model, ends, listener)
    with run_folder.atomic_path(path / run_folder.MODEL) as temporary:
        model.save(temporary)
    run_folder.write_json(path / run_folder.INPUTS, _describe_inputs(recipe, data))
    evaluation_started = time.monotonic()
    metrics = _evaluate_splits(path, recipe, data, model, listener)
    now = time.monotonic()
    timing = {
        "total_seconds": round(sum(state.stage_seconds) + now - evaluation_started, 3),
        "this_process_seconds": round(now - started, 3),
        "evaluation_seconds": round(now - evaluation_started, 3),
        "stages": [{"stage": number, "seconds": round(s, 3)} for number, s in enumerate(state.stage_seconds)],
    }
    run_folder.write_json(path / run_folder.TIMING, timing)
    run_folder.write_json(path / run_folder.METRICS, metrics)
    shutil.rmtree(path / run_folder.CHECKPOINT, ignore_errors=True)


def primary_split(data):
    """Return the split whose figures are the headline: test, where there is one."""
    return "test" if len(data.indices("test")) else "val"


def used_for(split):
    """Return what a split was used to choose."""
    return ["epoch"] if split == "val" else []


def write_predictions(path, data, indices, probabilities):
    """Write `predictions_<split>.csv`: path, then per task label, prediction and a probability per class."""
    header = ["path"]
    columns = [[data.paths[i] for i in indices]]
    for name, task in data.tasks.items():
        header += [name, f"{name}.prediction", *(f"{name}.{label}" for label in task.classes)]
        columns.append([task.classes[k] for k in data.labels[name][indices]])
        columns.append([task.classes[k] for k in probabilities[name].argmax(axis=1)])
        columns += [[f"{value:.7g}" for value in column] for column in probabilities[name].T]
    run_folder.write_csv(path, header, zip(*columns, strict=True))


def _train(path, recipe, data, model, ends, listener):
    from tlkit.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
    from tlkit.training.checkpoint import Checkpoint, TrainingState
    from tlkit.training.fit import Training, weights_hash
    from tlkit.training.interrupt import deferred_signals

    settings, train, val = recipe.data, data.indices("train"), data.indices("val")
    shared = {"image_size": settings.image_size, "batch_size": settings.batch_size, "fit": settings.fit}
    training = Training(
        model,
        recipe.stages,
        ends=ends,
        tasks=data.tasks,
        batch_size=settings.batch_size,
        steps_per_epoch=steps_per_epoch(len(train), settings.batch_size),
        train_batches=lambda step: training_batches(
            data,
            train,
            augment=settings.augment,
            views=settings.views or None,
            seed=recipe.seed,
            epochs=sum(stage.epochs for stage in recipe.stages),
            start_step=step,
            **shared,
        ),
        validation_batches=lambda: evaluation_batches(data, val, **shared),
        batch_norm=recipe.training.batch_norm,
        monitor=recipe.training.monitor,
        patience=recipe.training.patience,
    )
    identity = {"recipe": recipe.to_toml(), "data": data.fingerprint, "initial weights": weights_hash(model)}
    checkpoint = Checkpoint(path / run_folder.CHECKPOINT, identity, recipe.training.checkpoint_seconds)
    with deferred_signals() as stop:
        state = checkpoint.load() or TrainingState()
        recorder = _Recorder(path)
        training.run(state, checkpoint=checkpoint, listener=listener, stop=stop, on_epoch=recorder)
    recorder.write_history(state)
    return state


class _Recorder:
    """Writes `history.csv` and the TensorBoard log after every epoch."""

    def __init__(self, path):
        from tlkit.training.tensorboard import ScalarLog

        self._path = path / run_folder.HISTORY
        self._log = ScalarLog(path / run_folder.TENSORBOARD)

    def __call__(self, state):
        self.write_history(state)
        self._log.write(state.history[-1], step=len(state.history) - 1)

    def write_history(self, state):
        from tlkit.training.fit import HISTORY_COLUMNS

        rows = [[row[column] for column in HISTORY_COLUMNS] for row in state.history]
        run_folder.write_csv(self._path, HISTORY_COLUMNS, rows)


def _evaluate_splits(path, recipe, data, model, listener):
    """Predict validation and test images, write the predictions, and return what goes into `metrics.json`."""
    from tlkit.data.pipeline import evaluation_batches
    from tlkit.evaluation.infer import predict_batches

    settings = recipe.data
    metrics = {"primary": f"{primary_split(data)}.tasks.{next(iter(data.tasks))}.accuracy"}
    for split in ("test", "val"):
        indices = data.indices(split)
        if not len(indices):
            continue
        batches = evaluation_batches(
            data, indices, image_size=settings.image_size, batch_size=settings.batch_size, fit=settings.fit
        )
        counter = _Counter(listener, len(indices), split)
        probabilities = predict_batches(
            model, batches, data.tasks, batch_size=settings.batch_size, on_batch=counter.add
        )
        write_predictions(path / f"predictions_{split}.csv", data, indices, probabilities)
        labels = {name: values[indices] for name, values in data.labels.items()}
        metrics[split] = split_metrics(labels, probabilities, data.tasks, used_for(split))
    return metrics


class _Counter:
    def __init__(self, listener, total, what):
        self._listener, self._total, self._what, self._done = listener, total, what, 0

    def add(self, images):
        self._done += images
        self._listener.images_predicted(self._done, self._total, self._what)


def _describe_inputs(recipe, data):
    return {
        "image_size": recipe.data.image_size,
        "fit": recipe.data.fit,
        "interpolation": INTERPOLATION,
        "channels": "RGB",
        "range": [0, 255],
        "batch_size": recipe.data.batch_size,
        "tasks": {name: {"kind": task.kind, "classes": list(task.classes)} for name, task in data.tasks.items()},
    }


def _write_splits(path, data):
    columns = [[task.classes[k] for k in data.labels[name]] for name, task in data.tasks.items()]
    rows = zip(data.paths, data.split.tolist(), data.sha256, *columns, strict=True)
    run_folder.write_csv(path, ["path", "split", "sha256", *data.tasks], rows)


def _refuse_another_run(path, recipe, data):
    recorded = read_recipe(path / run_folder.RECIPE)
    differing = _differing_keys(recorded.model_dump(), recipe.model_dump())
    if differing:
        raise RunError(
            f"{path}: this run's recipe differs in {', '.join(differing)}. "
            "Give --resume with --out alone, or choose another --out."
        )
    if run_folder.read_json(path / run_folder.DATA).get("fingerprint") != data.fingerprint:
        raise RunError(f"{path}: the data changed since this run began. Put it back, or start a new run.")


def _differing_keys(one, other, prefix=""):
    if isinstance(one, dict) and isinstance(other, dict):
        keys = list(dict.fromkeys([*one, *other]))
        return [found for key in keys for found in _differing_keys(one.get(key), other.get(key), f"{prefix}.{key}")]
    return [] if one == other else [prefix.removeprefix(".")]
