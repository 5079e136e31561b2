"""`tlkit demo`: the main job where there is no data and no network yet."""

import click

from tlkit.cli.training import out_options, run_and_report


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of all that is random. Default: 0.")
@out_options
def demo(seed, out, resume, allow_changed):
    """Fine-tune EfficientNet-Lite0 on scikit-learn's 1,797 handwritten digits, written out as folders of PNGs."""
    from tlkit.api.demo import write_digits

    folder = write_digits()
    click.echo(f"1,797 handwritten digits in {folder}", err=True)
    run_and_report("demo", {"seed": seed}, (), (), str(folder), out, resume, allow_changed)
