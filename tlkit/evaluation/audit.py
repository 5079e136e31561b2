"""What is wrong with a data set, as findings: dicts of `path`, `problem`, `left_out`, `kind`, `other` and `score`.

`other` is the second image that a finding is about, `score` how sure or how grave it is; both only where they apply.
"""

from pathlib import Path

import numpy as np

from tlkit.data.checks import Verdict, check_files
from tlkit.data.labels import label_texts, labelled
from tlkit.evaluation.duplicates import RELATIONS
from tlkit.training.rules import IMBALANCED

# The kinds of findings, the most important first, with what is said of them together.
KINDS = {
    "leak": "in two splits at once: the score is flattered",
    "conflicting_label": "one picture, two labels: one of them is wrong",
    "label_error": "labels that are likely wrong",
    "unreadable": "files that can't be used",
    "near_duplicate": "copies of a picture in one split",
    "duplicate": "identical files in one split",
    "outlier": "pictures unlike all others",
    "imbalance": "classes with few images",
    "tiny": "small pictures",
    "orientation": "pictures that are stored turned",
    "extension": "names that say another format than the file has",
}
SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "WebP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
}
# A picture is tiny below this many pixels of its shorter side; if more than this share of all are, it is the set.
TINY, TINY_SHARE = 64, 0.2
SAME_PICTURE = ("identical", "saved")  # relations in which two labels can't both be right


def read_facts(data, progress=None):
    """Return what is known of each image without a model: list of `tlkit.data.checks.Verdict`.

    Args:
        data: `Data`.
        progress: As for `check_files`.
    """
    if data.images is None:
        return check_files([data.root / path for path in data.paths], progress)
    from tlkit.data.perceptual import perceptual_hash

    facts = []
    for i, content in enumerate(data.sha256):
        image = data.read(i)
        facts.append(Verdict(content, image.shape[1], image.shape[0], None, "", 1, perceptual_hash(image)))
    return facts


def copy_findings(data, copies):
    """Name images that are copies: across splits, with two labels, or only copies.

    Args:
        data: `Data`.
        copies: List of `tlkit.evaluation.duplicates.Copy`.

    Returns:
        List of findings, at most one of an image for a split and for a task.
    """
    texts = [label_texts(task, data.labels[name]) for name, task in data.tasks.items()]
    ranked = sorted(copies, key=lambda copy: (list(RELATIONS).index(copy.relation), -copy.score, copy.first))
    findings, named = [], set()

    def add(copy, kind, problem, *about):
        if (copy.second, kind, *about) not in named:
            named.update({(copy.second, kind, *about), copy.second})
            base = {"path": data.paths[copy.second], "other": data.paths[copy.first], "kind": kind}
            findings.append(base | {"problem": problem, "score": round(copy.score, 4), "left_out": False})

    for copy in ranked:
        first, second = copy.first, copy.second
        words = RELATIONS[copy.relation].format(data.paths[first])
        here, there = str(data.split[second]), str(data.split[first])
        if here != there:
            add(copy, "leak", f"{words}, but in {here} while that is in {there}", there)
        for number, of_task in enumerate(texts):
            mine, other = of_task[second], of_task[first]
            if copy.relation in SAME_PICTURE and mine and other and mine != other:
                problem = f"{words}, but labelled {mine!r} while that is {other!r}"
                add(copy, "conflicting_label", problem, number)
        if second not in named:
            add(copy, "duplicate" if copy.relation == "identical" else "near_duplicate", words)
    return findings


def label_findings(data, name, errors):
    """Name the labels of one task that are likely wrong.

    Args:
        data: `Data`.
        name: The task's name.
        errors: List of `tlkit.evaluation.label_errors.LabelError`.
    """
    task = data.tasks[name]
    of_task = "" if name == "label" else f"{name}: "
    findings = []
    for error in errors:
        if task.kind == "regression":
            problem = f"{of_task}labelled {error.said:g}, but looks like {error.likely:.4g}"
        elif task.kind == "multilabel":
            has = "not labelled" if error.likely else "labelled"
            looks = "it is there" if error.likely else "it is not there"
            problem = f"{of_task}{has} {task.classes[error.said]!r}, but it looks as if {looks}"
        else:
            problem = f"{of_task}labelled {task.classes[error.said]!r}, but looks like {task.classes[error.likely]!r}"
        finding = {"path": data.paths[error.index], "problem": problem, "left_out": False, "kind": "label_error"}
        findings.append(finding | {"score": round(error.score, 4)})
    return findings


def outlier_findings(data, outliers):
    """Name images that are unlike all others: `outliers` as `tlkit.evaluation.neighbours.find_outliers` returns."""
    return [
        {
            "path": data.paths[i],
            "problem": f"unlike all other images: {score:.1f} standard deviations farther from them than is usual",
            "left_out": False,
            "kind": "outlier",
            "score": round(score, 2),
        }
        for i, score in outliers
    ]


def file_findings(data, facts):
    """Name what is odd about the files: tiny pictures, EXIF orientation, names that say another format.

    Args:
        data: `Data`.
        facts: What `read_facts` returns.
    """
    findings = _tiny(data, facts)
    for path, fact in zip(data.paths, facts, strict=True):
        suffix = Path(path).suffix.lower()
        base = {"path": path, "left_out": False}
        if fact.orientation > 1:
            problem = f"EXIF orientation {fact.orientation}: tlkit turns it upright, other programs may not"
            findings.append(base | {"problem": problem, "kind": "orientation"})
        if suffix and fact.format in SUFFIXES and suffix not in SUFFIXES[fact.format]:
            problem = f"the name ends in {suffix}, but the file is {fact.format}"
            findings.append(base | {"problem": problem, "kind": "extension"})
    return findings


def _tiny(data, facts):
    sides = np.array([min(fact.width, fact.height) for fact in facts])
    small = np.flatnonzero(sides < TINY)
    if len(small) > TINY_SHARE * len(sides):
        problem = (
            f"{len(small):,} of {len(sides):,} images have a shorter side below {TINY} pixels, the smallest "
            f"{sides.min()}: backbones made for 224 see them enlarged"
        )
        return [{"path": ".", "problem": problem, "left_out": False, "kind": "tiny", "score": int(sides.min())}]
    return [
        {
            "path": data.paths[i],
            "problem": f"tiny: {facts[i].width} x {facts[i].height} pixels",
            "left_out": False,
            "kind": "tiny",
            "score": int(sides[i]),
        }
        for i in small[np.argsort(sides[small], kind="stable")]
    ]


def imbalance_findings(data):
    """Name classes that have less than a tenth of the images of the most frequent one, among the training images."""
    findings = []
    train = data.split == "train" if (data.split == "train").any() else np.ones(len(data), bool)
    for name, task in data.tasks.items():
        if task.kind != "single_label":
            continue
        labels = data.labels[name][train]
        counts = np.bincount(labels[labelled(labels)], minlength=len(task.classes))
        most = int(counts.argmax())
        of_task = "" if name == "label" else f" of {name}"
        for rare in np.flatnonzero(counts * IMBALANCED <= counts[most]):
            problem = (
                f"class {task.classes[rare]!r}{of_task} has {counts[rare]:,} training images, "
                f"{task.classes[most]!r} {counts[most]:,}"
            )
            ratio = round(int(counts[most]) / max(1, int(counts[rare])), 1)
            findings.append({"path": name, "problem": problem, "left_out": False, "kind": "imbalance", "score": ratio})
    return findings


def in_order(findings):
    """Return findings by kind, the most important first; within a kind by score where it ranks them."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    rising = {"tiny"}

    def place(finding):
        kind = finding.get("kind", "")
        score = finding.get("score", 0.0)
        return order.get(kind, len(order)), score if kind in rising else -score

    return sorted(findings, key=place)
