"""`tlkit experiment`: the lectures' claims, measured again."""

import json

import click

from tlkit.experiments import EXPERIMENTS, find_experiment


class _Listing(click.Command):
    """A command whose help lists the experiments."""

    def format_epilog(self, ctx, formatter):
        with formatter.section("Experiments"):
            formatter.write_dl([(one.name, one.line) for one in EXPERIMENTS.values()])


@click.command(cls=_Listing)
@click.argument("name", required=False)
@click.option("--data", metavar="PATH", help="mnist.npz; or CIFAR-10, a folder or a tar.gz.")
@click.option("--seeds", type=click.IntRange(2, 100), help="How often everything is repeated, at least twice.")
@click.option("--images", type=click.IntRange(1), help="Training images; transfer-vs-scratch: at most, of each class.")
@click.option("--epochs", type=click.IntRange(1, 1000), help="Passes over the training images.")
@click.option("--workers", type=click.IntRange(1, 64), help="Trainings at once, each with its share of the processors.")
@click.option("--out", metavar="DIR", help="The folder. Default: runs/experiment-NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: all that was measured.")
def experiment(name, data, seeds, images, epochs, workers, out, as_json):
    """Do the experiment NAME: a table, a chart and a verdict in a folder.

    Stopped or killed, it goes on where it was when it is started again with the same --out.
    """
    if name is None:
        _list(as_json)
        return
    find_experiment(name)
    from tlkit.cli.screen import Screen
    from tlkit.experiments.study import CHART, run_experiment

    options = {"data": data, "seeds": seeds, "images": images, "epochs": epochs, "workers": workers}
    with Screen() as screen:
        result = run_experiment(name, options, out=out, listener=screen)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    from tlkit.cli.tables import print_table

    print_table(result["table"]["header"], result["table"]["rows"])
    click.echo(f"claim: {result['claim']}")
    click.echo(f"verdict: {result['verdict']}")
    click.echo(f"chart: {result['path']}/{CHART}")


def _list(as_json):
    if as_json:
        click.echo(json.dumps([one._asdict() for one in EXPERIMENTS.values()], indent=2))
        return
    from tlkit.cli.tables import print_table

    rows = [
        (one.name, one.line, " ".join(f"--{key} {value}" for key, value in one.defaults.items()))
        for one in EXPERIMENTS.values()
    ]
    print_table(("experiment", "what it shows", "by default"), rows)
