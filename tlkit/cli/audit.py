"""`tlkit audit`: what is wrong with this data, and what the network will see, before anything is trained on it."""

import json
from pathlib import Path

import click

from tlkit.cli.training import parse_tasks, task_option
from tlkit.errors import TlkitError

MOST_LINES = 20  # of a kind of findings on the screen


@click.command()
@click.argument("data", metavar="DIR|FILE")
@task_option
@click.option("--group-by", metavar="REGEX", help="Images whose path gives the same first group share a split.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the split. Default: 0.")
@click.option("--quick", is_flag=True, help="Only what needs no model: no label errors, outliers, cropped copies.")
@click.option("--backbone", metavar="NAME", help="Whose features are looked at. Default: the default recipe's.")
@click.option(
    "--clean", metavar="FILE.csv", help="Write a list without copies and contradictions, for `tlkit finetune --data`."
)
@click.option(
    "--drop",
    multiple=True,
    metavar="KIND",
    help="Leave these out of --clean, too: label_error, outlier or tiny; again for each further kind.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: a run's data.json with all findings.")
@click.option(
    "--preview",
    is_flag=False,
    flag_value="",
    metavar="[FILE.png]",
    help="Draw views of a few images: evaluation and training. Default: preview-<policy>.png.",
)
@click.option("--augment", metavar="NAME", help="Policy to preview, or a list of ops in TOML. Default: as for a run.")
@click.option("--image-size", type=click.IntRange(16, 4096), help="Side of the previewed views in pixels.")
@click.option(
    "--fit", type=click.Choice(["crop", "squash", "letterbox"]), help="How the previewed images become square."
)
def audit(data, tasks, group_by, seed, quick, backbone, clean, drop, as_json, preview, augment, image_size, fit):
    """Check every image of DIR, a folder or a CSV file: what is wrong with files, copies, labels and splits."""
    kinds = parse_tasks(tasks) or None
    _check_options(quick, backbone, clean, drop)
    draw = _prepare_preview(preview, {"augment": augment, "image_size": image_size, "fit": fit}, seed, kinds or {})
    from tlkit.api.audit import audit as audit_data
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        found = audit_data(
            data, tasks=kinds, group_by=group_by or "", seed=seed, backbone=backbone, quick=quick, listener=screen
        )
    description = found.describe()
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        _print(description)
    # What can't be written costs the findings nothing; stdout holds the document alone.
    if clean:
        click.echo(_clean(found, clean, drop), err=as_json)
    for line in draw(found.data) if draw else ():
        click.echo(line, err=as_json)


def _check_options(quick, backbone, clean, drop):
    """Refuse what can't be done before the long work."""
    if quick and backbone:
        raise click.UsageError("--backbone: --quick looks at no features. Leave out one of them.")
    if drop and not clean:
        raise click.UsageError("--drop: only --clean needs it; add it.")
    if quick and {"label_error", "outlier"} & set(drop):
        raise click.UsageError("--drop: --quick finds no label errors and no outliers. Leave out one of them.")
    from tlkit.api.audit import check_backbone, check_clean

    if clean:
        check_clean(clean, drop)
    if not quick:
        check_backbone(backbone)


def _clean(found, path, drop):
    """Write the cleaned list; return the line that says so."""
    from tlkit.evaluation.cleaning import RULE

    left_out = found.clean(path, drop)
    reasons = list(left_out.values())
    also = [f"{kind} ({reasons.count(kind):,})" for kind in dict.fromkeys(drop)]
    also = f"; as asked, further images: {', '.join(also)}" if drop else ""
    kept = len(found.data) - len(left_out)
    options = "".join(f" --task {name}={kind}" for name, kind in _kinds_to_say(found.data).items())
    options = options and f"; to read it, add{options}"
    return f"clean: {path}: {kept:,} of {len(found.data):,} images ({RULE}{also}){options}"


def _kinds_to_say(data):
    """Return the kind of each task that a CSV of these labels isn't read as by itself."""
    from tlkit.data.labels import label_texts, possible_kinds

    kinds = {name: task.kind for name, task in data.tasks.items()}
    if kinds != {"label": "single_label"}:
        return kinds
    return kinds if len(possible_kinds(label_texts(data.tasks["label"], data.labels["label"]))[0]) > 1 else {}


def _prepare_preview(file, given, seed, kinds):
    """Check what the preview options ask for, before the long work; return None, or what draws it and says so.

    Args:
        file: The option's value: None where it wasn't given, empty for the default name.
        given: Dict of the recipe's data keys to the values of their options, None where not given.
        seed: Seed of the views.
        kinds: Dict of task to kind.
    """
    settings = {f"data.{key}": value for key, value in given.items() if value is not None}
    if file is None:
        if settings:
            raise click.UsageError(f"--{next(iter(settings))[5:].replace('_', '-')}: only --preview needs it; add it.")
        return None
    from tlkit.catalog import BUILDABLE
    from tlkit.recipe import DEFAULT_RECIPE, read_recipe
    from tlkit.training.rules import resolve_views

    overrides = [f"{key}={value}" for key, value in settings.items()]
    recipe = resolve_views(read_recipe(DEFAULT_RECIPE, overrides), kinds.values())
    policy, size = recipe.data.augment, recipe.data.image_size
    size = BUILDABLE[recipe.backbone.name].image_size if size == "auto" else size
    path = Path(file or f"preview-{policy if isinstance(policy, str) else 'ops'}.png")
    from tlkit.data.augment import training_view

    training_view(policy, size, recipe.data.fit)  # refuses unknown policies and ops
    if path.suffix.lower() != ".png":
        raise TlkitError(f"--preview {path}: expected the name of a PNG file, such as {path.stem or 'preview'}.png.")
    if path.exists():
        raise TlkitError(f"--preview {path}: exists already. Delete it, or give another name.")
    if not path.parent.is_dir():
        raise TlkitError(f"--preview {path}: no such folder as {path.parent}. Make it, or give another name.")

    def draw(data):
        from tlkit.data.policies import orientation_risk
        from tlkit.data.preview import encode_png, preview_sheet
        from tlkit.run import atomic_path

        sheet = preview_sheet(data, augment=policy, image_size=size, fit=recipe.data.fit, seed=seed)
        with atomic_path(path) as temporary:
            temporary.write_bytes(encode_png(sheet))
        risks = [orientation_risk(policy, task.classes) for task in data.tasks.values()]
        return [f"preview: {path}", *filter(None, risks)]

    return draw


def _print(description):
    from tlkit.cli.tables import print_table

    origin = "as given" if description["splits_given"] else "made by tlkit"
    splits = list(description["counts"])
    total = sum(description["counts"].values())
    click.echo(f"{description['source']}: {total:,} usable images; splits {origin}")
    for name in description["kinds"]:
        print_table((name, *splits), list(_rows(description, name, splits)))
    findings = description["findings"]
    click.echo(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}")
    for kind, count in description["audit"]["counts"].items():
        of_kind = [finding for finding in findings if finding.get("kind", "other") == kind]
        click.echo(f"{kind}: {count:,}{_meaning(kind)}")
        for finding in of_kind[:MOST_LINES]:
            click.echo(f"  {finding['path']}: {finding['problem']}")
        if count > MOST_LINES:
            click.echo(f"  and {count - MOST_LINES:,} more (--json names all)")
    for what, reason in description["audit"]["not_checked"].items():
        click.echo(f"not checked: {what} ({reason})")


def _meaning(kind):
    from tlkit.evaluation.audit import KINDS

    return f", {KINDS[kind]}" if kind in KINDS else ""


def _rows(description, name, splits):
    """Yield the rows of a task's table: a title and a figure per split."""
    if name in description["values"]:
        spread = [description["values"][name][split] or {} for split in splits]
        for title, key in (("mean", "mean"), ("standard deviation", "std"), ("least", "min"), ("largest", "max")):
            yield title, *(f"{figures[key]:.4g}" if figures else "" for figures in spread)
    else:
        counts = [description["class_counts"][name][split] for split in splits]
        for label in description["classes"][name]:
            yield label, *(f"{of_split[label]:,}" for of_split in counts)
    missing = [description["missing"][name][split] for split in splits]
    if any(missing):
        yield "missing", *(f"{count:,}" for count in missing)
    yield "all", *(f"{description['counts'][split]:,}" for split in splits)
