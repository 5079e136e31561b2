"""`tlkit backbones`: the pretrained networks."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def backbones(as_json):
    """List the pretrained networks: name, image size, features, blocks, paper."""
    from tlkit.catalog import BACKBONES

    if as_json:
        rows = [
            {
                "name": b.name,
                "image_size": b.image_size,
                "features": b.features,
                "blocks": len(b.block_ends),
                "paper": b.paper,
            }
            for b in BACKBONES.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from tlkit.cli.tables import print_table

    rows = [(b.name, b.image_size, b.features, len(b.block_ends), b.paper) for b in BACKBONES.values()]
    print_table(("backbone", "image size", "features", "blocks", "paper"), rows)
