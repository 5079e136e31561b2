"""The audit of a data set: what is wrong with its files, its copies, its labels and its splits."""

from dataclasses import dataclass, field
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api import load_data
from tlkit.api.pooled import pooled_features
from tlkit.data.describe import describe_data
from tlkit.data.index import Data
from tlkit.errors import DataError, did_you_mean
from tlkit.progress import Listener
from tlkit.recipe import DEFAULT_RECIPE, read_recipe


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        data: The `Data`.
        findings: Dicts of `path`, `problem`, `left_out`, and where they apply `kind`, `other` and `score`, the most
            important kinds first.
        backbone: Whose features were looked at; empty if none were.
        not_checked: Dict of what wasn't looked at to the reason.
        copies: List of `tlkit.evaluation.duplicates.Copy`.
        facts: What is known of each file, as `tlkit.evaluation.audit.read_facts` returns.
    """

    data: Data
    findings: list
    backbone: str = ""
    not_checked: dict = field(default_factory=dict)
    copies: list = field(default_factory=list, repr=False)
    facts: list = field(default_factory=list, repr=False)

    def counts(self):
        """Return a dict of kind to its number of findings, the most important first."""
        counts = {}
        for finding in self.findings:
            kind = finding.get("kind", "other")
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def describe(self):
        """Return all of it as a JSON-able dict: the keys of a run's `data.json`, and `audit`."""
        audit = {"backbone": self.backbone or None, "counts": self.counts(), "not_checked": self.not_checked}
        return describe_data(self.data) | {"findings": self.findings, "audit": audit}

    def clean(self, path, drop=()):
        """Write a CSV of the images without copies and contradictions; no other file is touched.

        The rule is `tlkit.evaluation.cleaning.RULE`; `load_data` and `tlkit finetune --data` read the file, which has
        the columns `path`, `split`, `group` where images belong together, and one per task.

        Args:
            path: The file, which mustn't exist; the paths in it are relative to its folder.
            drop: Kinds of findings whose images are left out, too: `"label_error"`, `"outlier"`, `"tiny"`.

        Returns:
            Dict of path to the reason why it was left out.

        Raises:
            DataError: If the file exists or can't be written, or the images are arrays.
        """
        from tlkit.evaluation.cleaning import clean, clean_rows

        path = check_clean(path, drop)
        if self.data.images is not None:
            raise DataError("--clean: the images are arrays, and a CSV names files. Save them as files first.")
        left_out = clean(self.data, self.copies, self.facts, self.findings, drop)
        header, rows = clean_rows(self.data, left_out, path.parent)
        run_folder.write_csv(path, header, rows)
        return {self.data.paths[i]: reason for i, reason in sorted(left_out.items())}


def check_clean(path, drop=()):
    """Return the absolute path of the CSV that is to be written, checked before the long work.

    Raises:
        DataError: If it exists, can't lie there, isn't a CSV, or a kind to drop is unknown.
    """
    from tlkit.evaluation.cleaning import DROPPABLE

    for kind in drop:
        if kind not in DROPPABLE:
            known = ", ".join(DROPPABLE)
            raise DataError(f"--drop: expected one of {known}. Received: {kind!r}.{did_you_mean(kind, DROPPABLE)}")
    path = Path(path).expanduser().absolute()
    if path.suffix.lower() != ".csv":
        raise DataError(f"--clean {path}: expected the name of a CSV file, such as {path.stem or 'splits'}.csv.")
    if path.exists():
        raise DataError(f"--clean {path}: exists already, and nothing is overwritten. Give another name.")
    if not path.parent.is_dir():
        raise DataError(f"--clean {path}: no such folder as {path.parent}. Make it, or give another name.")
    return path


def audit(source, *, tasks=None, group_by="", seed=0, backbone=None, quick=False, listener=None):
    """Look for what is wrong with a data set.

    Without a model: files that can't be read, have the wrong extension, are tiny or stored turned; copies, also saved
    anew, resized, mirrored, turned or recoloured, within and across splits; copies with two labels; rare classes. With
    the features of a frozen backbone, which are kept and serve later runs: cropped and shifted copies, labels that are
    likely wrong, outliers.

    Args:
        source: `Data`, or a source as for `load_data`.
        tasks, group_by, seed: As for `load_data`; for a source only.
        backbone: Name of the backbone whose features are looked at; by default the default recipe's.
        quick: True to do only what needs no model.
        listener: `Listener` for progress and notes.

    Returns:
        `Audit`.

    Raises:
        DataError: In one line, if the data can't be used.
        RecipeError: If there is no such backbone.
    """
    from tlkit.evaluation import audit as parts

    listener = listener or Listener()
    recipe = None if quick else check_backbone(backbone)
    data = source
    if not isinstance(source, Data):
        data = load_data(source, tasks=tasks, group_by=group_by, seed=seed, listener=listener)
    facts = parts.read_facts(data)
    found = _Found(data, [fact.pattern for fact in facts])
    if quick:
        found.not_checked = dict.fromkeys(("label_error", "outlier"), "--quick: needs a model")
    elif len(data) < FEWEST:
        found.not_checked = dict.fromkeys(("label_error", "outlier"), f"fewer than {FEWEST} images")
    else:
        found.features = pooled_features(data, recipe, listener)[0]
    copies, findings = found.all()
    known = [finding for finding in data.findings if not ("other" in finding and finding["kind"] in COPY_KINDS)]
    findings = [*known, *findings, *parts.file_findings(data, facts), *parts.imbalance_findings(data)]
    name = "" if found.features is None else recipe.backbone.name
    return Audit(data, parts.in_order(findings), name, found.not_checked, copies, facts)


COPY_KINDS = ("leak", "conflicting_label")
FEWEST = 20  # images below which features tell nothing


class _Found:
    """Copies, label errors and outliers, as far as there are features to find them by."""

    def __init__(self, data, patterns):
        self.data, self.patterns = data, patterns
        self.features, self.not_checked = None, {}

    def all(self):
        """Return `(copies, findings)`."""
        import numpy as np

        from tlkit.evaluation import audit as parts
        from tlkit.evaluation import neighbours as near
        from tlkit.evaluation.duplicates import copy_groups, find_copies

        patterns = np.array(self.patterns, np.uint64)
        if self.features is None:
            copies = find_copies(self.data, patterns)
            return copies, parts.copy_findings(self.data, copies)
        around = near.find_neighbours(near.contrasts(self.features), 2 * near.NEIGHBOURS)
        copies = find_copies(self.data, patterns, around)
        groups = copy_groups(len(self.data), copies)
        around = near.without_copies(around, groups)
        findings = parts.copy_findings(self.data, copies)
        findings += self._label_errors(around, groups)
        kinds = next((self.data.labels[n] for n, t in self.data.tasks.items() if t.kind == "single_label"), None)
        kinds = np.full(len(self.data), -1) if kinds is None else kinds
        far = near.find_neighbours(near.contents(self.features), 2 * near.NEIGHBOURS)
        outliers = near.find_outliers(near.without_copies(far, groups), kinds)
        findings += parts.outlier_findings(self.data, outliers)
        return copies, findings

    def _label_errors(self, around, groups):
        from tlkit.data.splits import unite
        from tlkit.evaluation import audit as parts
        from tlkit.evaluation.label_errors import find_label_errors

        data, findings = self.data, []
        together = unite(list(zip(data.groups, groups.tolist(), strict=True)))
        for name, task in data.tasks.items():
            errors, reason = find_label_errors(
                self.features, around, data.labels[name], task, together, data.paths, data.seed
            )
            findings += parts.label_findings(data, name, errors)
            if reason:
                self.not_checked[f"label_error of {name}"] = reason
        return findings


def check_backbone(name=None):
    """Return the default recipe with that backbone, its weights checked to be there.

    Raises:
        RecipeError: If there is no such backbone.
        WeightsError: If its weights are missing.
    """
    from tlkit.models.weights import check_weights

    recipe = read_recipe(DEFAULT_RECIPE, (), {} if name is None else {"backbone.name": name})
    check_weights(recipe.backbone.name, recipe.backbone.weights)
    return recipe
