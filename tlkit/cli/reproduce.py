"""`tlkit reproduce`: a run done again, and what came out otherwise."""

import json

import click

DIFFERS = 2  # exit status


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--data", metavar="DIR|FILE.csv", help="The images, where they aren't where the run had them.")
@click.option("--head", metavar="MODULE:FUNCTION", help="The head, for a run with one of your own.")
@click.option("--out", metavar="DIR", help="The new run's folder. Default: a new one under runs/.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reproduce(run, data, head, out, as_json):
    """Do RUN again from its recipe, into a new folder, and report what differs.

    The same machine, versions and number of threads (TF_NUM_INTRAOP_THREADS) give the same bits. Elsewhere sums are
    rounded in another order, and training makes that grow: with one thread for two, probabilities of a probe differed
    by 1.3e-6, and the validation loss after 28 steps of two blocks by 6e-5. A repetition is within the tolerance if no
    probability is further off than 0.05 and at most 2 % of the images are answered otherwise: room for long trainings.

    Exit status: 0 identical or within the tolerance, 2 otherwise.
    """
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        from tlkit.api.reproducing import reproduce as repeat

        found = repeat(run, data=data, head=head, out=out, listener=screen)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        for line in describe(found):
            click.echo(line)
    if not found.repeats:
        click.get_current_context().exit(DIFFERS)


def describe(found):
    """Return lines that say what a `Reproduction` found."""
    data = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in found.data.items() if key != "same" and count)
    history, weights = found.history, found.weights
    yield f"run: {found.before}, repeated in {found.now}"
    yield f"recipe: {_changes(found.recipe) or 'the same'}"
    yield f"data: {'the same' if found.data['same'] else data or 'in another order'}"
    yield f"environment: {_changes(found.environment) or 'the same'}"
    before, now = history["epochs"]
    epochs = f"{now} epochs" if before == now else f"{before} epochs, now {now}"
    if history["first_difference"] is None:
        yield f"history: {epochs}, the same"
    else:
        apart = ", ".join(f"{key} by up to {value:.2g}" for key, value in history["largest_difference"].items())
        yield f"history: {epochs}, the first difference in epoch {history['first_difference'] + 1}: {apart}"
    if weights["same"]:
        yield "weights: the same"
    elif weights["differing"] is None:
        yield "weights: of other shapes"
    else:
        apart = f"by up to {weights['largest_difference']:.2g}"
        yield f"weights: {weights['differing']} of {weights['arrays']} arrays differ, {apart}"
    for name, (before, now) in found.primary.items():
        yield f"{name}: {_figure(before)}, now {_figure(now)}; {len(found.metrics)} figures differ"
    for split, tasks in found.predictions.items():
        for task, of_task in tasks.items():
            yield f"{split}{'' if task == 'label' else f' {task}'}: {_answers(of_task)}"
    yield f"verdict: {found.verdict}: {found.why}"


def _answers(of_task):
    apart = f"{of_task['largest_difference']:.2g}"
    if of_task["other_answers"] is None:
        return f"{of_task['n']} numbers, by up to {apart} standard deviations apart"
    return f"{of_task['other_answers']} of {of_task['n']} answers differ, probabilities by up to {apart}"


def _changes(changed):
    return "; ".join(f"{key} {_value(before)}, now {_value(now)}" for key, (before, now) in changed.items())


def _value(value):
    return " ".join(map(str, value)) if isinstance(value, list) else "missing" if value is None else str(value)


def _figure(value):
    return "none" if value is None else f"{value:.4g}"
