"""`tlkit recipes`: what ships, and the schema for editors."""

import json

import click


@click.command()
@click.argument("name", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a recipe, for editors.")
def recipes(name, schema):
    """List the recipes that ship with tlkit, or print the recipe NAME to start your own from."""
    from tlkit.recipe import json_schema, recipe_names, recipe_text

    if schema:
        click.echo(json.dumps(json_schema(), indent=2))
        return
    if name:
        click.echo(recipe_text(name), nl=False)
        return
    from tlkit.cli.tables import print_table

    rows = [(known, recipe_text(known).splitlines()[0].lstrip("# ")) for known in recipe_names()]
    print_table(("recipe", "what it does"), rows)
