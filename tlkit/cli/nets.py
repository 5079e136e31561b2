"""`tlkit nets`: the classic networks."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--chart",
    is_flag=False,
    flag_value="nets.png",
    metavar="[FILE.png]",
    help="Draw published accuracy against operations, parameters as circles. Default: nets.png.",
)
def nets(as_json, chart):
    """List the classic networks: name, year, image size, parameters, blocks, paper."""
    if chart:
        _draw_chart(chart, as_json)
        return
    from tlkit.catalog import NETS
    from tlkit.catalog.published import YEARS

    if as_json:
        rows = [
            {
                "name": net.name,
                "year": YEARS.get(net.paper),
                "image_size": net.image_size,
                "classes": net.num_classes,
                "parameters": net.parameters,
                "blocks": len(net.block_ends),
                "paper": net.paper,
            }
            for net in NETS.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from tlkit.cli.tables import print_table

    rows = [
        (net.name, YEARS.get(net.paper, ""), net.image_size, f"{net.parameters:,}", len(net.block_ends), net.paper)
        for net in NETS.values()
    ]
    print_table(("net", "year", "image size", "parameters", "blocks", "paper"), rows)


def _draw_chart(chart, as_json):
    """Draw the chart and print what is in it, with the sources."""
    from tlkit.catalog.published import PUBLISHED

    file = _check_chart(chart)
    from tlkit.delivery.chart import write_chart

    write_chart(PUBLISHED, file)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in PUBLISHED], indent=2))
        click.echo(f"chart: {file}", err=True)
        return
    from tlkit.cli.tables import print_table

    sources = list(dict.fromkeys(row.source for row in PUBLISHED))
    rows = [
        (
            row.net,
            f"{100 * row.top1:.1f} %",
            row.crop,
            f"{row.macs / 1e9:.2f} G",
            f"{row.parameters / 1e6:.1f} M",
            1 + sources.index(row.source),
        )
        for row in PUBLISHED
    ]
    print_table(("net", "top-1", "crop", "MACs", "parameters", "source"), rows, right=("top-1", "MACs", "parameters"))
    for number, source in enumerate(sources, start=1):
        click.echo(f"{number}  {source}")
    click.echo(f"chart: {file}")


def _check_chart(chart):
    """Return the path, checked before the work: nothing of the user's is overwritten."""
    from pathlib import Path

    from tlkit.errors import TlkitError

    path = Path(chart)
    if path.suffix.lower() != ".png":
        raise TlkitError(f"--chart {path}: expected the name of a PNG file, such as {path.stem or 'nets'}.png.")
    if path.exists():
        raise TlkitError(f"--chart {path}: exists already. Delete it, or give another name.")
    if not path.parent.is_dir():
        raise TlkitError(f"--chart {path}: no such folder as {path.parent}. Make it, or give another name.")
    return path
