"""The main job, put together from the rooms: what the command line and `import tlkit` both call."""

import importlib
import sys
import weakref
from dataclasses import replace
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api.explaining import explain as explain
from tlkit.catalog import BUILDABLE
from tlkit.errors import RecipeError
from tlkit.progress import Listener
from tlkit.recipe import check_recipe, read_recipe, set_keys
from tlkit.recipe_keys import Recipe

# The recipe of each model that `build_model` built, for the run folder of whoever trains it.
_recipes = weakref.WeakKeyDictionary()


def load_data(source, *, tasks=None, group_by="", seed=0, listener=None):
    """Read, check and split labelled images.

    Args:
        source: A folder with one subfolder per class (optionally under `train/`, `val/`, `test/`), a CSV file with
            `path,label[,split][,group]`, an `.npz` file, or `(images, labels)` arrays; labels are an array, or a dict
            of task to array.
        tasks: Dict of label column to kind, such as `{"species": "single_label", "marks": "multilabel", "age":
            "regression"}`; by default the column `label`, of one class each. A column that may be meant otherwise is
            refused unless its kind is named. Empty cells are missing labels.
        group_by: Regular expression on the path; images that it groups together stay in one split.
        seed: Seed of the split, where none is given.
        listener: `Listener` for progress and notes.

    Returns:
        `tlkit.data.index.Data`.

    Raises:
        DataError: In one line, if the data can't be used.
    """
    from tlkit.data.index import load

    listener = listener or Listener()
    return load(source, tasks=tasks, group_by=group_by or None, seed=seed, progress=listener.files_checked)


def build_model(
    backbone,
    tasks,
    *,
    head=None,
    weights="imagenet",
    image_size=None,
    pooling="avg",
    dropout=0.2,
    hidden=(),
    logits="linear",
    init="probe",
    l1=0.0,
    l2=0.0,
    max_norm=0.0,
    seed=0,
):
    """Build an ordinary flat `keras.Model` from a backbone and a new head.

    Args:
        backbone: One of `tlkit backbones`, or of `tlkit nets`.
        tasks: Dict of task name to `Task`, such as `data.tasks`.
        head: Function from features `(batch, height, width, features)`, a KerasTensor, to logits
            `(batch, classes)`, or to a dict of them by task; `"original"`: that of the net's paper, for `tlkit nets`;
            by default pooling, dropout and one dense layer.
        weights: `"imagenet"`, `"none"`, the path of a weights file, or the folder of an earlier run.
        image_size: Side in pixels; by default what the backbone was made for.
        pooling, dropout, hidden, logits, init, l1, l2, max_norm: The default head's; see
            `tlkit.models.heads.make_head`.
        seed: Seeds Keras's global generators, and with them the head's initial weights.

    Returns:
        `keras.Model`: float32 RGB `(batch, image_size, image_size, 3)` in [0, 255] to probabilities
            (numbers for regression).

    Raises:
        WeightsError: If the weights are missing or don't fit the backbone.
    """
    settings = {
        "pooling": pooling,
        "dropout": dropout,
        "hidden": list(hidden),
        "logits": logits,
        "init": init,
        "l1": l1,
        "l2": l2,
        "max_norm": max_norm,
    }
    original, head = head == "original", None if head == "original" else head
    values = {
        "seed": seed,
        "tasks": {name: task.kind for name, task in tasks.items()},
        "data": {"image_size": image_size or "auto"},
        "backbone": {"name": backbone, "weights": str(weights or "none")},
        "head": settings | {"original": original, "custom": f"{head.__module__}:{head.__qualname__}" if head else ""},
    }
    return _build(check_recipe(values, where="build_model"), tasks, head)


def finetune(
    model,
    data,
    *,
    stages=None,
    recipe="default",
    settings=None,
    cache=None,
    cache_size=None,
    out=None,
    resume=False,
    allow_changed=(),
    block_ends=None,
    listener=None,
):
    """Train a model on data, stage by stage, and evaluate it.

    Args:
        model: What `build_model` returns, or a `keras.Model` of your own that ends in one layer a task, named like the
            task: `Activation("softmax")` for one label, `Activation("sigmoid")` for several, for a number
            `Rescaling(task.scale, offset=task.mean)`.
        data: What `load_data` returns.
        stages: `"auto"` or another of the recipe's words, or a list of dicts as in a recipe's `[[stages]]`; by default
            the recipe's.
        recipe: `Recipe`, or name or path of one, for everything else; the backbone and the head are the model's.
        settings: Dict of recipe key to value, such as `{"data.mixup": 0.2, "training.ema": 0.99}`; they win over the
            recipe. `tlkit recipes --schema` describes all keys.
        cache: `"auto"`, `"ram"`, `"disk"` or `"off"`: where the frozen layers' features are kept; by default the
            recipe's choice. Results don't depend on it.
        cache_size: Most bytes that they may take on disk; by default a quarter of what is free.
        out: The run folder; by default a new one under `runs/`.
        resume: Continue the run in `out`; the model and the data must be the same.
        allow_changed: What may have changed since, nevertheless: any of `"recipe"`, `"data"` (its training images) and
            `"versions"` (of libraries and machine). The result has other bits then; `environment.json` records it.
        block_ends: For a model of your own: names of the layers whose output separates it, from the image on.
        listener: `Listener` for progress and notes.

    Returns:
        `tlkit.delivery.predict.Run`.

    Raises:
        TlkitError: In one line, for whatever the user can mend.
    """
    from tlkit.api.job import Job
    from tlkit.api.resuming import check_allowed
    from tlkit.models.backbones import block_ends as find_block_ends

    base = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, recorded=True)
    values = base.model_dump()
    built = _recipes.get(model)
    if built is None:
        values["backbone"] = base.backbone.model_dump() | {"weights": "none"}
        values["head"] = {"custom": "a model of the user's own", "init": "random"}  # it begins as it is
    else:
        values |= {"seed": built.seed, "backbone": built.backbone.model_dump(), "head": built.head.model_dump()}
    if stages is not None:
        values["stages"] = stages
    values["data"] |= {
        "image_size": model.input_shape[1],
        "split_seed": data.seed,
        "group_by": data.group_by,
        "folds": 0,
    }
    values["tasks"] = {name: task.kind for name, task in data.tasks.items()}
    if cache:
        values["training"]["cache"] = cache
    _refuse_built(settings)
    set_keys(values, settings or {})
    ends = find_block_ends(model, block_ends)
    checked = check_recipe(values, where="finetune")
    job = Job(checked, data, tuple(ends), lambda *_: model, listener or Listener(), cache_size=cache_size)
    job = replace(job, allowed=check_allowed(allow_changed))
    return job.resolve().open(out, resume).run()


# What is decided where the model is built, and where the data are loaded.
_OF_MODEL = ("backbone", "tasks", "seed", "data.image_size", "head")
_OF_DATA = ("data.split_seed", "data.group_by", "data.folds")


def _refuse_built(settings):
    for key in settings or {}:
        for taken, where in ((_OF_MODEL, "build_model"), (_OF_DATA, "load_data")):
            if key != "head.init" and any(key == name or key.startswith(f"{name}.") for name in taken):
                raise RecipeError(f"finetune: `{key}` is decided before. Give it to `{where}`, or to the command.")


def finetune_recipe(
    recipe, source, *, out=None, resume=False, allow_changed=(), cache_size=None, budget=None, listener=None
):
    """Do the main job from a recipe: what `tlkit finetune` and `tlkit train` call.

    Args:
        recipe: `Recipe`; with `data.folds`, cross-validated.
        source: As for `load_data`.
        out, resume, allow_changed, cache_size, listener: As for `finetune`.
        budget: `tlkit.api.budgeting.Budget`: what the recipe leaves open is chosen such that the run is over in that
            time; the recipe in the run folder says what was chosen, so that it is repeated and resumed to the bit.

    Returns:
        `tlkit.delivery.predict.Run`.

    Raises:
        TlkitError: In one line, for whatever the user can mend; then no run folder is left behind.
    """
    from tlkit.api.folds import cross_validate
    from tlkit.api.resuming import check_allowed

    if budget and resume:
        raise RecipeError("--budget: a run that is resumed follows the plan that its folder holds. Leave it out.")
    if out and not resume:
        run_folder.new_run_path(recipe.backbone.name, "", out)
    allowed = check_allowed(allow_changed)
    job = replace(_make_job(recipe, source, listener or Listener(), cache_size), allowed=allowed)
    if budget:
        from tlkit.api.budgeting import plan_run

        job = plan_run(job, budget)
    if recipe.data.folds:
        return cross_validate(job, out, resume)
    return job.resolve().open(out, resume).run()


def _make_job(recipe, source, listener, cache_size=None):
    """Return the `Job` of a recipe and a source; all that can be wrong before TensorFlow is needed is found here."""
    from tlkit.api.job import Job
    from tlkit.api.words import describe_in_words
    from tlkit.data.augment import training_view
    from tlkit.data.policies import orientation_risk
    from tlkit.models.weights import check_weights
    from tlkit.training.rules import resolve_views

    check_weights(recipe.backbone.name, recipe.backbone.weights)
    tried = resolve_views(recipe, recipe.tasks.values()).data
    training_view(tried.augment, image_size=224, fit=tried.fit)  # refuses unknown policies and ops
    head = find_head(recipe.head.custom) if recipe.head.custom else None
    data = load_data(
        source,
        tasks=dict(recipe.tasks),
        group_by=recipe.data.group_by,
        seed=recipe.seed if recipe.data.split_seed == "auto" else recipe.data.split_seed,
        listener=listener,
    )
    for line in describe_in_words(data, recipe.data.folds):
        listener.note(line)
    recipe = resolve_views(recipe, [task.kind for task in data.tasks.values()])
    for task in data.tasks.values():
        if risk := orientation_risk(recipe.data.augment, task.classes):
            listener.note(risk)
    ends = BUILDABLE[recipe.backbone.name].block_ends

    def make_model(recipe, tasks, build=None):
        listener.engine_needed()
        return _build(recipe, tasks, head, build)

    return Job(recipe, data, ends, make_model, listener, cache_size=cache_size)


def find_learning_rate(recipe, source, *, stage=0, steps=100, listener=None):
    """Do the learning-rate range test of one stage of a recipe.

    The stage begins where a run's first does: at the linear probe, if the recipe's head does.

    Args:
        recipe: `Recipe`.
        source: As for `load_data`.
        stage: Number of the stage, from 0.
        steps: Number of training steps, at least 2, from a rate of 1e-7 to 1.
        listener: `Listener` for progress and notes.

    Returns:
        `tlkit.training.lr_find.RangeTest`: `rates`, `losses` and `suggestion`.

    Raises:
        TlkitError: In one line, for whatever the user can mend.
    """
    from tlkit.api.lr_find import range_test_of

    return range_test_of(_make_job(recipe, source, listener or Listener()), stage, steps)


def evaluate(run, *, data=None, tta="none", average="probabilities", ensemble=(), listener=None):
    """Evaluate a completed run, on the data that it was held out from or on other data.

    Args:
        run: A `Run`, or the folder of one.
        data: `Data`, or a source as for `load_data`, of which every image is used; by default the run's own
            headline split: test, or val where there is no test.
        tta: Test-time views, whose predictions are averaged: `"none"`, `"flip"`, `"fivecrop"`, `"tencrop"`,
            `"multiscale"`, `"rotations"`, `"dihedral"`, a TOML file of them (see `tlkit.data.tta.find_views`), or
            `"auto"`: those of them that help on the run's validation images by a paired test, else none.
        average: How the predictions of views, and of the runs of an ensemble, are averaged: `"probabilities"`,
            `"logits"` or `"geometric"`; see `tlkit.evaluation.tta.average`.
        ensemble: Further runs or folders, whose predictions are averaged with the run's. Their backbones, image sizes
            and fits may differ. Images that any of them was fitted on are left out.
        listener: `Listener` for progress and notes.

    Returns:
        `tlkit.evaluation.metrics.Result`: `accuracy`, `accuracy_interval`, all figures as `metrics`, and what the views
            changed as `tta`.

    Raises:
        RunError: If a run is not complete, its own data changed since, or the runs can't be averaged.
        DataError: If the given data can't be used, or has classes that the run doesn't know.
    """
    from tlkit.api.scoring import evaluate_run

    members = [load_run(one) for one in ensemble]
    return evaluate_run(load_run(run), data, tta, average, members, listener or Listener())


def load_run(run, *, unfinished=False):
    """Return a completed run as a `tlkit.delivery.predict.Run`, which predicts; a `Run` is returned as it is.

    Args:
        run: The folder, or a `Run`.
        unfinished: Whether it may be a run that isn't over, which predicts with its best model so far.

    Raises:
        RunError: If it isn't the folder of such a run.
    """
    from tlkit.delivery.predict import Run

    return run if isinstance(run, Run) else Run(run, unfinished=unfinished)


def find_head(reference):
    """Return the function that `module:function` names; modules of the current folder are found too.

    Raises:
        RecipeError: If there is no such module or function.
    """
    module_name, colon, function_name = reference.partition(":")
    if not colon or not module_name or not function_name:
        raise RecipeError(f"--head: expected module:function. Received: {reference!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"--head {reference}: no module {error.name!r}. It is looked for in this folder, too."
        ) from None
    head = getattr(module, function_name, None)
    if not callable(head):
        raise RecipeError(f"--head {reference}: {module_name} has no function {function_name!r}.")
    return head


def _build(recipe, tasks, head, build=None):
    from tlkit.models.assemble import assemble
    from tlkit.models.backbones import build_backbone, original_head
    from tlkit.models.heads import make_head
    from tlkit.training.repeatable import make_repeatable

    make_repeatable(recipe.seed)
    size = recipe.data.image_size
    backbone = (build or build_backbone)(
        recipe.backbone.name, weights=recipe.backbone.weights, image_size=None if size == "auto" else size
    )
    if build:
        make_repeatable(recipe.seed)  # the head begins the same whether the backbone has just been built or was there
    if recipe.head.original:
        head = original_head(recipe.backbone.name, tasks)
    settings = recipe.head.model_dump(exclude={"custom", "original"})
    model = assemble(backbone, head or make_head(tasks, **settings), tasks)
    _recipes[model] = recipe
    return model
