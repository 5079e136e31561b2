"""What a report says in sentences: what a model does, how well, how sure that is, and whether it can be believed."""

import numpy as np
from markupsafe import Markup

from tlkit.evaluation.metrics import headline_metric

# By kind of task: key in metrics.json, title, how it is written, what it means.
FIGURES = {
    "single_label": (
        ("accuracy", "accuracy", "percent", "share of images whose most probable class is right"),
        ("top5", "top-5 accuracy", "percent", "share whose class is among the five most probable"),
        ("macro_f1", "macro F1", "f3", "mean over the classes of the balance between precision and recall"),
        ("weighted_f1", "weighted F1", "f3", "the same, weighted by the images of each class"),
        ("roc_auc", "ROC AUC", "f3", "how well each class is told from the rest: 0.5 is chance, 1 perfect"),
        ("log_loss", "log loss", "f3", "penalty for probability withheld from the truth: 0 is perfect"),
        ("brier", "Brier score", "f3", "squared error of the probabilities: 0 is perfect"),
        ("ece", "calibration error", "f3", "mean gap between how sure it is and how often it is right: 0 is perfect"),
    ),
    "multilabel": (
        ("mean_average_precision", "mean average precision", "f3", "how well it ranks images by each label: 1 is best"),
        ("constant_mean_average_precision", "that of a constant answer", "f3", "what ranking at random would score"),
        ("mean_roc_auc", "mean ROC AUC", "f3", "images with a label ranked before those without: 0.5 is chance"),
        ("macro_f1", "macro F1", "f3", "mean over the labels of the balance between precision and recall"),
        ("subset_accuracy", "all labels right", "percent", "share of images with every single label right"),
        ("log_loss", "log loss", "f3", "penalty for probability withheld from the truth: 0 is perfect"),
        ("brier", "Brier score", "f3", "squared error of the probabilities: 0 is perfect"),
        ("ece", "calibration error", "f3", "mean gap between how sure it is and how often it is right: 0 is perfect"),
    ),
    "regression": (
        ("mae", "mean absolute error", "g3", "how far off it is on average, in the unit of the labels"),
        ("training_mean_mae", "that of a constant answer", "g3", "always answering the mean of the training labels"),
        ("rmse", "root mean squared error", "g3", "the same, with large errors weighing more"),
        ("r2", "R squared", "f3", "share of the variance explained: 1 is perfect, 0 a constant answer"),
    ),
}
STYLE_OF = {key: style for figures in FIGURES.values() for key, _, style, _ in figures}
TITLE_OF = {key: title for figures in FIGURES.values() for key, title, _, _ in figures}
SPLITS = {"test": "test", "val": "validation", "cv": "cross-validation", "train": "training"}
USES = {
    "epoch": "choosing the best epoch",
    "calibration": "calibrating the probabilities",
    "tta": "choosing the test-time views",
    "training": "training",
}
KINDS = {"single_label": "one of several classes", "multilabel": "any number of labels", "regression": "a number"}
WIDE = 0.15  # an interval of shares from this width on deserves a word
_FORMATS = {
    "percent": lambda value: f"{100 * value:.1f}\u00a0%",
    "points": lambda value: f"{100 * value:+.1f}",
    "f3": "{:.3f}".format,
    "signed": "{:+.3f}".format,
    "g3": "{:.3g}".format,
    "g4": "{:.4g}".format,
    "count": "{:,}".format,
    "seconds": lambda value: f"{value:.1f}\u00a0s" if value < 120 else f"{value / 60:.1f}\u00a0min",
}


def figure(value, style):
    """Return a figure as text, with its exact value in the element for whatever reads the page.

    Args:
        value: Number, or None where nothing can be said.
        style: `"percent"`, `"points"`, `"f3"`, `"signed"`, `"g3"`, `"g4"`, `"count"` or `"seconds"`.
    """
    if value is None:
        return Markup("<span class=none>n/a</span>")
    return Markup('<data value="{}">{}</data>').format(repr(value), _FORMATS[style](value).replace("-", "\u2212"))


def interval(bounds, style):
    """Return an interval as text, `low to high`."""
    if bounds is None:
        return Markup("")
    low = figure(bounds[0], style)
    if style == "percent":
        low = Markup(low.replace("\u00a0%", ""))
    return Markup("{} to {}").format(low, figure(bounds[1], style))


def title_of(folder):
    """Return one sentence: what the model does and how good it is at it."""
    name, task = next(iter(folder.tasks.items()))
    if len(folder.tasks) > 1:
        answers = [Markup("{} ({})").format(bdi(one), _in_short(folder, one)) for one in folder.tasks]
        return Markup("This model answers {} questions about an image: {}.").format(len(answers), join_words(answers))
    return Markup("This model {}{}.").format(_does(name, task), _how_good(folder, name))


def _does(name, task):
    if task.kind == "regression":
        return Markup("estimates {} from an image").format("a number" if name == "label" else bdi(name))
    if task.kind == "multilabel":
        return Markup("marks which of {} labels an image has").format(len(task.classes))
    if len(task.classes) == 2:
        return Markup("tells {} from {} in images").format(*map(bdi, task.classes))
    return Markup("sorts images into {:,} classes").format(len(task.classes))


def _how_good(folder, name):
    entry = folder.splits[folder.headline]["tasks"][name]
    key = headline_metric(entry["kind"])[0]
    if entry[key] is None:
        return ", but how well can't be said"
    value, images = figure(entry[key], STYLE_OF[key]), _images(entry["n_labelled"], folder.headline)
    if key == "accuracy":
        return Markup(" and was right on {} of {}").format(value, images)
    if key == "mae":
        return Markup(" and was off by {} on average over {}").format(value, images)
    return Markup(" and ranked {} with a mean average precision of {}, of at most 1").format(images, value)


def _in_short(folder, name):
    entry = folder.splits[folder.headline]["tasks"][name]
    key = headline_metric(entry["kind"])[0]
    if entry[key] is None:
        return "not measured"
    words = {"accuracy": "right on {}", "mae": "off by {} on average"}.get(key, "mean average precision {}")
    return Markup(words).format(figure(entry[key], STYLE_OF[key]))


def _images(count, split):
    what = {"test": "test ", "val": "validation "}.get(split, "")
    return f"{count:,} {what}image{'' if count == 1 else 's'}"


def task_summary(folder, name):
    """Return what the first screen says of one task.

    Returns:
        Dict: `name`, `key`, `title`, `style`, `value`, `interval` (values and the text of the figures), `low`, `high`
        and `scale` for its bar, `baseline` (a value or None), and `sentences`.
    """
    task, entry = folder.tasks[name], folder.splits[folder.headline]["tasks"][name]
    key, interval_key = headline_metric(task.kind)
    baseline, meaning = _baseline(folder, name, entry)
    summary = {
        "name": name,
        "kind": task.kind,
        "does": Markup("The model {}.").format(_does(name, task)),
        "key": key,
        "title": TITLE_OF[key],
        "style": STYLE_OF[key],
        "value": entry[key],
        "interval": entry.get(interval_key),
        "baseline": baseline,
        "sentences": [],
    }
    if entry[key] is None:
        nothing = "every label is on all images, or on none" if entry["n_labelled"] else "no image has a label for it"
        return summary | {"sentences": [f"How well can't be said: {nothing}."]}
    says = [
        _counted(folder, entry, key),
        _sure(entry[interval_key], key, folder.splits[folder.headline].get("groups")),
        meaning,
    ]
    says.append(_against(summary, key))
    return summary | {"bar": _bar(summary), "sentences": [sentence for sentence in says if sentence]}


def _counted(folder, entry, key):
    """Return the figure as a count of images, where it is one."""
    unseen = "" if folder.splits[folder.headline]["used_for"] or leaks_of(folder) else " that it had never seen"
    images = _images(entry["n_labelled"], folder.headline)
    if key == "accuracy":
        right = round(entry[key] * entry["n_labelled"])
        return Markup("Of {}{} it got {} right.").format(images, unseen and f"{unseen},", figure(right, "count"))
    return f"Measured on {images}{unseen}."


def _sure(bounds, key, groups):
    if bounds is None:
        return ""
    said = Markup("The 95 % interval is {}: that is where the figure would most likely settle with ever more such "
                  "images.").format(interval(bounds, STYLE_OF[key]))  # fmt: skip
    if key != "mae" and bounds[1] - bounds[0] >= WIDE:
        said += " It is wide, because the images are few."
    if groups:
        said += Markup(
            " The images come in {} groups of alike ones, which it does not allow for: it is too narrow."
        ).format(groups)
    return said


def _baseline(folder, name, entry):
    """Return what an answer that ignores the image would score, and a sentence on it; None where that is unknown."""
    what = ()
    if entry["kind"] == "multilabel":
        value = entry.get("constant_mean_average_precision")
        said = "An answer that ignores the image would score {}."
    elif entry["kind"] == "regression":
        value = entry.get("training_mean_mae")
        said = "Always answering the mean of the training labels would be off by {}."
    else:
        counts = folder.data.get("class_counts", {}).get(name, {}).get("train", {})
        support = {label: row["support"] for label, row in entry.get("per_class", {}).items()}
        if not counts or not sum(support.values()):
            return None, ""
        common = max(counts, key=counts.get)
        value = support.get(common, 0) / sum(support.values())
        what = (bdi(common),)
        said = "Always answering {}, the most common class in training, would be right on {}."
    if value is None:
        return None, ""
    return value, Markup(said).format(*what, figure(value, STYLE_OF[headline_metric(entry["kind"])[0]]))


def _against(summary, key):
    """Return a warning where the interval doesn't leave the constant answer behind."""
    baseline, bounds = summary["baseline"], summary["interval"]
    if baseline is None or bounds is None:
        return ""
    low, high = bounds if key == "mae" else (-bounds[1], -bounds[0])
    constant = baseline if key == "mae" else -baseline
    if high < constant:
        return ""
    if low > constant:
        return Markup("<strong>The whole interval is worse than that: on these images an answer that ignores the image "
                      "does better than the model.</strong>")  # fmt: skip
    return Markup("<strong>The interval includes that: on these images the model is not shown to do better than an "
                  "answer that ignores the image.</strong>")  # fmt: skip


def _bar(summary):
    """Return positions in percent for the drawing of value, interval and baseline on a line."""
    top = 1.0
    if summary["key"] == "mae":
        top = 1.25 * max(summary["value"], summary["baseline"] or 0, (summary["interval"] or [0])[-1]) or 1.0
    place = lambda value: None if value is None else round(100 * float(np.clip(value / top, 0, 1)), 2)  # noqa: E731
    low, high = summary["interval"] or (None, None)
    return {
        "value": place(summary["value"]),
        "low": place(low),
        "high": place(high),
        "baseline": place(summary["baseline"]),
        "top": top,
    }


def trust(folder):
    """Return whether the headline can be believed: `level` (good, care or bad), `badge`, and `sentences`."""
    entry = folder.splits[folder.headline]
    uses = join_words([Markup(USES.get(use, use)) for use in entry["used_for"]])
    if uses:
        level, badge = "care", "Optimistic"
        says = [
            f"Take the figure as optimistic: the same images were used for {uses}, so expect somewhat worse on new "
            "ones. A test split that chooses nothing, or --folds 5, would give an honest figure."
        ]
    elif folder.headline == "cv":
        level, badge = "good", "Cross-validated"
        folds = entry.get("folds", "several")
        says = [
            f"Every image was predicted once, by the one of {folds} models that had not seen it. The model that ships "
            "was trained in the same way on all images but a validation slice; these figures stand for it."
        ]
    else:
        level, badge = "good", "Unbiased test"
        many = "" if len(folder.tasks) == 1 else "s"
        says = [
            f"The number{many} can be trusted as far as the interval{many} say{'' if many else 's'}: these images were "
            f"used for nothing else, neither to train nor to choose. {'They hold' if many else 'It holds'} for images "
            "of the same kind."
        ]
    if leaks := leaks_of(folder):
        many = "1 finding says" if leaks == 1 else f"{leaks:,} findings say"
        level, badge = "bad", "Flattered" if badge != "Optimistic" else badge
        says = [
            *(says if uses else []),
            f"Don't trust the figure yet: {many} that an image of one split is also in another, so that the model may "
            "have learnt its answer. Mend the splits and train again; the section on data names the images.",
        ]
    return {"level": level, "badge": badge, "sentences": says}


def leaks_of(folder):
    """Return how many findings say that an image of one split, used as it is, is also in another."""
    return sum(_leaks(finding) and not finding["left_out"] for finding in folder.data.get("findings", []))


def _leaks(finding):
    if "kind" in finding:
        return finding["kind"] == "leak"
    return finding["problem"].startswith("identical to") and ", but in " in finding["problem"]


def selection_words(folder):
    """Return sentences that say how the model that ships was chosen among the probe and the stages."""
    says, probe = [], probe_figures(folder)
    contests, shipped = folder.selection.get("contests", []), folder.selection.get("shipped")
    if probe:
        says.append(
            Markup("A linear probe, which learns nothing but the last layer, came first: validation loss {}.").format(
                figure(probe["val_loss"], "f3")
            )
        )
    for contest in contests:
        says.append(_contest_words(contest))
    if shipped:
        loss, score = (figure(shipped[key], "f3") for key in ("val_loss", "val_accuracy"))
        said = Markup("What ships is {}: validation loss {}, validation {} {}.")
        says.append(said.format(_candidate(shipped), loss, score_name(folder), score))
    return says


def _contest_words(contest):
    who = f"Stage {contest['stage']} was best after epoch {contest['epoch'] + 1}: validation loss {{}}"
    said = Markup(who).format(figure(contest["val_loss"], "f3"))
    if "difference" not in contest:
        return said + ". It had nothing to beat."
    verdict = "so it was taken" if contest["taken"] else f"so {contest['against']} was kept"
    reason = "clearly lower" if contest["taken"] else "no clear gain"
    return said + Markup(", image by image {} ± {} against {}: {}, {}.").format(
        figure(contest["difference"], "signed"),
        figure(contest["standard_error"], "f3"),
        contest["against"],
        reason,
        verdict,
    )


def _candidate(row):
    return "the linear probe" if row["stage"] < 0 else f"stage {row['stage']} after epoch {row['epoch'] + 1}"


def score_name(folder):
    """Return what the history's accuracy is: of numbers, and of several tasks, it is no share of images."""
    return "accuracy" if {task.kind for task in folder.tasks.values()} == {"single_label"} else "score"


def probe_figures(folder):
    """Return `val_loss` and, where it is known, `val_accuracy` of the linear probe; None if there was none."""
    shipped = folder.selection.get("shipped")
    if shipped and shipped["stage"] < 0:
        return shipped
    for contest in folder.selection.get("contests", []):
        if contest.get("against") == "the probe" and folder.recipe.get("training", {}).get("monitor") == "loss":
            return {"val_loss": contest["val_loss"] - contest["difference"], "val_accuracy": None}
    return None


def stage_words(stage):
    """Return one of a recipe's stages, a dict, in words."""
    unfreeze = stage.get("unfreeze", 0)
    what = {0: "the head alone", "all": "everything", 1: "the head and the last block"}.get(unfreeze)
    what = what or f"the head and the last {unfreeze} blocks"
    epochs = stage.get("epochs", 0)
    rate = f"at a rate of {stage['learning_rate']:g}" if "learning_rate" in stage else ""
    return f"{what}, {epochs} epoch{'' if epochs == 1 else 's'} {rate}, {stage.get('schedule', 'constant')}"


def join_words(words):
    """Return `"a, b and c"`; what isn't `Markup` is escaped, its direction its own."""
    words = [word if isinstance(word, Markup) else bdi(word) for word in words]
    if len(words) < 2:
        return Markup("").join(words)
    return Markup(", ").join(words[:-1]) + " and " + words[-1]


def bdi(name):
    """Return a name of the user's, escaped, its direction its own."""
    return Markup("<bdi>{}</bdi>").format(name)
