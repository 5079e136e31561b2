"""What tuning has gained: the best settings against the recipe's own, on images that chose neither."""

import numpy as np

from tlkit import run as run_folder
from tlkit.api import finetune_recipe
from tlkit.api.searching import JOURNAL, work
from tlkit.api.trials import FOLDS, Division, with_settings
from tlkit.evaluation.bootstrap import student_interval
from tlkit.evaluation.compare import SIGNIFICANT, paired_difference
from tlkit.evaluation.metrics import headline_metric, split_metrics
from tlkit.search.journal import Journal

RUNS, NESTED = "runs", "nested"
KINDS = ("own", "tuned")


def compare_on_test(setup, best, seeds):
    """Train the recipe's own settings and the best ones with several seeds, and compare them on the test images.

    Args:
        setup: `tlkit.api.searching.Setup`.
        best: The `Recipe` with the best settings.
        seeds: Runs of each.

    Returns:
        Dict of `comparison`, by task, and the `verdict` in words.
    """
    from tlkit.api.compare import compare

    folders = []
    for name, recipe in (("default", setup.recipe), ("best", best)):
        for number in range(seeds):
            seeded = recipe.model_copy(deep=True)
            if seeded.data.split_seed == "auto":
                seeded.data.split_seed = recipe.seed
            seeded.seed = (recipe.seed + number) % 2**32
            out = setup.path / RUNS / f"{name}-{number}"
            setup.listener.note(f"{name} settings, seed {seeded.seed}")
            where = {"out": out, "resume": True, "cache_size": setup.job.cache_size}
            where["allow_changed"] = setup.job.allowed
            finetune_recipe(seeded, setup.source, **where, listener=setup.listener)
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


def nested_gain(setup, main, timing):
    """Do the whole search anew in each of five folds, and test on the fold what it finds there.

    What a search finds was chosen by its validation images, and is judged too well by them. Here every image is
    predicted by a model that was chosen without it, so that the figures are those of tuning itself, and the validation
    figures' optimism can be read off.

    Args:
        setup: `tlkit.api.searching.Setup`.
        main: The `Trials` of the search itself: a fold makes as many.
        timing: `tlkit.api.search_time.SearchTime`.

    Returns:
        Dict of `folds`, `n`, by task `own`, `tuned` and `difference`; of the `loss` of what was chosen: `chosen_by`, on
        the validation images, `held_out`, on those of the fold, means over the folds, and `optimism`, their difference
        with its 95 % interval over the folds; and the `verdict`.

    Reference:
        Varma & Simon 2006, https://doi.org/10.1186/1471-2105-7-91; Cawley & Talbot 2010,
        https://www.jmlr.org/papers/v11/cawley10a.html
    """
    data = Division().of(setup.job.data, setup.base.seed)
    predicted = {
        kind: {name: np.empty((len(data), task.num_outputs)) for name, task in data.tasks.items()} for kind in KINDS
    }
    losses = []
    for fold in range(FOLDS):
        found = _of_fold(setup, main, fold, timing)
        for kind in KINDS:
            for name in data.tasks:
                predicted[kind][name][np.array(found["held_out"])] = found[kind][name]
        losses.append(found["losses"])
    own, tuned = (split_metrics(data.labels, predicted[kind], data.tasks, used_for=[])["tasks"] for kind in KINDS)
    tasks = {
        name: {
            "own": own[name],
            "tuned": tuned[name],
            "difference": vars(paired_difference(data.labels[name], *(predicted[k][name] for k in KINDS), task)),
        }
        for name, task in data.tasks.items()
    }
    chosen_by, held_out = np.array(losses).T
    optimism = held_out - chosen_by
    loss = {"chosen_by": chosen_by.mean(), "held_out": held_out.mean()}
    loss["optimism"] = [float(optimism.mean()), *student_interval(optimism)]
    result = {"folds": FOLDS, "n": len(data), "tasks": tasks, "loss": loss}
    return result | {"verdict": _in_words(result)}


def _of_fold(setup, main, fold, timing):
    """Search in a fold, or take what is there; return the predictions of the images that it holds out."""
    path = setup.path / NESTED / str(fold)
    file = path / "held_out.json"
    if file.is_file():
        return run_folder.read_json(file)
    path.mkdir(parents=True, exist_ok=True)
    setup.listener.note(f"nested cross-validation, fold {fold + 1} of {FOLDS}")
    journal = Journal(path / JOURNAL)
    try:
        search = setup.trials(journal)
        search.most, search.until = len(main.answers), timing.fold_until(fold)
        own, bench = work(setup, search, path, Division(fold, shared=True))
    finally:
        journal.close()
    number, tuned = 0, setup.recipe
    if search.best is not None and search.answers[search.best].score > own:
        number, proposal = search.best, search.proposals[search.best]
        tuned = with_settings(setup.base, proposal.settings, proposal.epochs)
    by_kind = {"own": bench.predictions(setup.recipe, 0, "own"), "tuned": bench.predictions(tuned, number, "tuned")}
    found = {"held_out": bench.data.indices("test").tolist()}
    found["losses"] = [_loss(bench.data, split, by_kind["tuned"][split]) for split in ("val", "test")]
    for kind, predictions in by_kind.items():
        found[kind] = {name: values.tolist() for name, values in predictions["test"].items()}
    run_folder.write_json(file, found)
    return found


def _loss(data, split, predictions):
    labels = {name: values[data.indices(split)] for name, values in data.labels.items()}
    return split_metrics(labels, predictions, data.tasks, used_for=[])["loss"]


def _in_words(result):
    name, task = next(iter(result["tasks"].items()))
    key, interval = headline_metric(task["tuned"]["kind"])
    said = f"nested cross-validation, {result['folds']} folds, {result['n']} images: "
    difference, loss = task["difference"], result["loss"]
    if difference["gain"] is not None:
        low, high = task["tuned"][interval]
        said += (
            f"{key.replace('_', ' ')}{'' if name == 'label' else f' of {name}'} {task['tuned'][key]:.3f} "
            f"[{low:.3f}, {high:.3f}] tuned, {task['own'][key]:.3f} with the recipe's own settings, gain "
            f"{difference['gain']:+.3f} [{difference['interval'][0]:+.3f}, {difference['interval'][1]:+.3f}], "
            f"p {difference['p']:.2g}; "
        )
    optimism, low, high = loss["optimism"]
    return said + (
        f"the log loss of what was chosen is {loss['chosen_by']:.3f} on the images that chose it and "
        f"{loss['held_out']:.3f} on others: validation is {'' if low > 0 else 'not measurably '}optimistic, by "
        f"{optimism:.3f} [{low:.3f}, {high:.3f}]"
    )
