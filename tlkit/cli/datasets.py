"""`tlkit datasets`: public datasets to try."""

import json

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def datasets(name, as_json):
    """List public image datasets, or print the card of NAME: source, licence, size, published accuracy."""
    from tlkit.errors import DataError, did_you_mean
    from tlkit.share import read_cards

    cards = read_cards()
    if name is not None and name not in cards:
        raise DataError(
            f"datasets: no card is called {name!r}.{did_you_mean(name, cards)} `tlkit datasets` lists them."
        )
    if as_json:
        click.echo(json.dumps(cards[name] if name else cards, indent=2, ensure_ascii=False, default=str))
    elif name:
        _print_card(cards[name])
    else:
        _print_list(cards)


def _print_list(cards):
    from tlkit.cli.tables import print_table

    rows = [(card["name"], f"{card['images']:,}", card["classes"], card["description"]) for card in cards.values()]
    print_table(("dataset", "images", "classes", "what it is"), rows)


def _print_card(card):
    click.echo(f"{card['title']}: {card['description']}")
    for key in ("source", "licence", "citation", "images", "classes", "image_size"):
        click.echo(f"{key.replace('_', ' ')}: {card[key]}")
    splits = ", ".join(f"{name} {count:,}" for name, count in card["splits"].items())
    click.echo(f"splits: {splits or 'none given'}")
    if "notes" in card:
        click.echo(f"notes: {card['notes']}")
    for file in card["files"]:
        checksum = next((f"{kind} {file[kind]}" for kind in ("sha256", "md5") if kind in file), "no checksum published")
        click.echo(f"file: {file['url']} ({checksum})")
    click.echo(f"layout: {' '.join(card['layout'].split())}")
    for reference in card.get("reference", []):
        click.echo(
            f"published: {reference['accuracy']:.3f} {reference['metric']}, {reference['model']}, {reference['source']}"
        )
