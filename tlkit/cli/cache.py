"""`tlkit cache`: what the feature store holds."""

import json

import click


@click.command()
@click.option("--clear", is_flag=True, help="Remove all entries; they are computed anew when they are needed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def cache(clear, as_json):
    """Show what the feature store holds: entries, images, size, last use; or clear it."""
    from tlkit.errors import TlkitError
    from tlkit.training.store import DiskStore, StoreError

    store = DiskStore()
    try:
        if clear:
            _print_cleared(store, as_json)
        else:
            _print_entries(store, as_json)
    except StoreError as error:
        raise TlkitError(f"feature store: {error}. Mend that, or set TLKIT_CACHE to another folder.") from error


def _print_cleared(store, as_json):
    from tlkit.training.sizes import format_size

    entries, size = store.clear()
    if as_json:
        click.echo(json.dumps({"folder": str(store.folder), "removed": {"entries": entries, "bytes": size}}, indent=2))
    else:
        click.echo(f"removed {_count(entries)}, {format_size(size)}, from {store.folder}")


def _print_entries(store, as_json):
    entries = store.entries()
    if as_json:
        _print_json(store, entries)
    elif not entries:
        click.echo(f"the feature store in {store.folder} is empty")
    else:
        _print_list(store, entries)


def _print_json(store, entries):
    rows = [
        {
            "what": entry.what,
            "images": entry.rows,
            "row_shape": entry.row_shape,
            "bytes": entry.bytes,
            "last_used": entry.last_used.isoformat(timespec="seconds"),
            "path": str(entry.path),
            "damaged": entry.key is None,
        }
        for entry in entries
    ]
    total = sum(entry.bytes for entry in entries)
    document = {"folder": str(store.folder), "bytes": total, "limit_bytes": store.max_bytes, "entries": rows}
    click.echo(json.dumps(document, indent=2))


def _print_list(store, entries):
    from tlkit.cli.tables import print_table
    from tlkit.training.sizes import format_size

    total = format_size(sum(entry.bytes for entry in entries))
    click.echo(f"{store.folder}: {_count(len(entries))}, {total} of up to {format_size(store.max_bytes)}")
    rows = [
        (
            entry.what if entry.key is not None else f"{entry.what} (damaged)",
            "?" if entry.rows is None else f"{entry.rows:,}",
            format_size(entry.bytes),
            f"{entry.last_used:%Y-%m-%d %H:%M}",
        )
        for entry in entries
    ]
    print_table(("features of", "images", "size", "last used"), rows)


def _count(number):
    return f"{number:,} {'entry' if number == 1 else 'entries'}"
