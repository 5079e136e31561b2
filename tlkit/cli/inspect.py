"""`tlkit inspect`: a net layer by layer."""

import json

import click

MEGABYTE = 1e6


@click.command()
@click.argument("what", metavar="NET|BACKBONE|RUN")
@click.option("--image-size", type=click.IntRange(1, 4096), metavar="N", help="Side of the image in pixels.")
@click.option(
    "--all", "every", is_flag=True, help="Show every layer; else activations and the like are added to theirs."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the layers as a CSV file.")
def inspect(what, image_size, every, as_json, csv_file):
    """Print a net's layers: output, activations, parameters, multiply-accumulates, receptive field and stride."""
    from tlkit.api.inspecting import find_inspected

    find_inspected(what, image_size)  # fails here, before TensorFlow loads
    from tlkit.cli.engine import load_engine

    load_engine()
    from tlkit.api.inspecting import inspect as inspect_net

    table = inspect_net(what, image_size=image_size)
    table = table if every else table.folded()
    if csv_file:
        _write_csv(csv_file, table)
    if as_json:
        click.echo(json.dumps(_as_json(table), indent=2))
    elif not csv_file:
        _print_table(table)


def _print_table(table):
    from tlkit.cli.tables import print_table

    header = ("layer", "kind", "output", "values", "weights", "biases", "MACs", "sees", "stride")
    print_table(header, [_cells(row) for row in table.rows], right=("values", "MACs", "sees", "stride"), spare="layer")
    for line in _summary(table):
        click.echo(line)
    for note in table.notes:
        click.echo(f"note: {note}", err=True)


def _cells(row):
    many = f"{row.outputs} x " if row.outputs > 1 else ""
    return (
        row.name,
        many + row.label,
        _sides(row.shape),
        "in place" if row.in_place else short(row.activations),
        f"{row.weights:,}",
        f"{row.biases:,}",
        short(row.macs),
        _pixels(row.field),
        "" if row.field == "image" else _pixels(row.stride),
    )


def _sides(shape):
    return "x".join(map(str, shape))


def _pixels(sides):
    if sides is None or isinstance(sides, str):
        return sides or "?"
    return str(sides[0]) if sides[0] == sides[1] else _sides(sides)


def short(number):
    """Return a number to three digits, such as `3.21 M`."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}" if number < 999.5 * unit else f"{number / unit:.0f}{name}"
    return str(number)


def _summary(table):
    counted = [row for row in table.rows if not row.in_place]
    largest = max(counted, key=lambda row: row.activations)
    heaviest = max(table.rows, key=lambda row: row.weights + row.biases)
    dearest = max(table.rows, key=lambda row: row.macs)
    yield (
        f"parameters: {table.parameters:,} = {table.weights:,} weights + {table.biases:,} biases and the like; "
        f"{_share(heaviest.weights + heaviest.biases, table.parameters)} in {heaviest.name}"
    )
    yield (
        f"values kept of one image: {table.activations:,}, as float32 {table.bytes / MEGABYTE:.3g} MB; "
        f"{_share(largest.activations, table.activations)} in {largest.name}"
    )
    yield (f"multiply-accumulates of one image: {table.macs:,}; {_share(dearest.macs, table.macs)} in {dearest.name}")


def _share(part, total):
    return f"{100 * part / max(total, 1):.0f} %"


def _as_json(table):
    return {
        "name": table.name,
        "parameters": table.parameters,
        "weights": table.weights,
        "biases": table.biases,
        "activations": table.activations,
        "activation_bytes": table.bytes,
        "macs": table.macs,
        "layers": [_layer(row) for row in table.rows],
        "notes": list(table.notes),
    }


def _layer(row):
    return {
        "name": row.name,
        "kind": row.kind,
        "label": row.label,
        "output_shape": list(row.shape),
        "outputs": row.outputs,
        "activations": row.activations,
        "activation_bytes": row.bytes,
        "in_place": row.in_place,
        "weights": row.weights,
        "biases": row.biases,
        "macs": row.macs,
        "receptive_field": row.field,
        "stride": row.stride,
        "inputs": list(row.inputs),
    }


def _write_csv(file, table):
    from pathlib import Path

    from tlkit import run as run_folder
    from tlkit.errors import TlkitError

    layers = [_layer(row) for row in table.rows]
    rows = [[_plain(value) for value in layer.values()] for layer in layers]
    try:
        run_folder.write_csv(Path(file), list(layers[0]), rows)
    except OSError as error:
        raise TlkitError(f"--csv {file}: can't write it: {error.strerror}. Choose another file.") from None


def _plain(value):
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value)) if value and isinstance(value[0], int) else "|".join(map(str, value))
    return "" if value is None else value
