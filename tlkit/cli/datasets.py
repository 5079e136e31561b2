"""`tlkit datasets`: public datasets to try, and how to get them."""

import json
import shlex

import click

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Cards(click.Group):
    """A group whose commands are `get` and the names of the cards."""

    def get_command(self, ctx, name):
        return super().get_command(ctx, name) or _card_command(name)


@click.group(cls=Cards, invoke_without_command=True, subcommand_metavar="[NAME | get NAME [DIR]]")
@_json_option
@click.pass_context
def datasets(ctx, as_json):
    """List public image datasets, or print the card of NAME: source, licence, size, published accuracy.

    `tlkit datasets get NAME` downloads one.
    """
    if ctx.invoked_subcommand is None:
        from tlkit.share import read_cards

        _print(read_cards(), as_json, _print_list)


@datasets.command()
@click.argument("name")
@click.argument("folder", metavar="[DIR]", required=False)
def get(name, folder):
    """Download the dataset NAME into DIR, a new folder: by default ./NAME.

    It comes over TLS and is compared with the checksum of its card. A download that broke off goes on where it stopped.
    The folder appears when it is whole, and nothing is overwritten.
    """
    from tlkit.api.getting import get_dataset
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        got = get_dataset(name, folder, listener=screen)
        if not got.fresh:
            screen.note(f"{name} is here already")
    splits = ", ".join(f"{split} {count:,}" for split, count in got.splits.items())
    click.echo(f"{name}: {got.images:,} images, {got.classes} classes{': ' if splits else ''}{splits}")
    click.echo(f"train with: tlkit finetune --data {shlex.quote(str(got.data))}")


def _card_command(name):
    """Return the command that prints the card of `name`."""

    @click.command(name)
    @_json_option
    @click.pass_context
    def card(ctx, as_json):
        from tlkit.share import read_card

        _print(read_card(name), as_json or ctx.parent.params["as_json"], _print_card)

    return card


def _print(value, as_json, show):
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    else:
        show(value)


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
