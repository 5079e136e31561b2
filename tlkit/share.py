"""Data that travels with the code: `recipes/` and `datasets/`, beside `tlkit/` in a checkout, inside it in a wheel."""

import tomllib
from pathlib import Path

from tlkit.errors import DataError, TlkitError, did_you_mean

PACKAGE = Path(__file__).resolve().parent


def share_folder(name):
    """Find a folder of data files, in an installed wheel as well as in a checkout.

    Args:
        name: `"recipes"` or `"datasets"`.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        TlkitError: If the installation lacks it.
    """
    # The wheel's place first: beside an installed tlkit there may be another package named `datasets`.
    candidates = (PACKAGE / "_share" / name, PACKAGE.parent / name)
    for folder in candidates:
        if any(folder.glob("*.toml")):
            return folder
    raise TlkitError(
        f"{candidates[0]}: expected the folder of {name} that comes with tlkit, found none. Install tlkit again."
    )


def read_cards():
    """Read the cards of the public datasets.

    Returns:
        `dict` of name to card, by name; `datasets/*.toml` shows the keys.

    Raises:
        TlkitError: If the folder is missing or a card is not valid TOML.
    """
    cards = {}
    for path in sorted(share_folder("datasets").glob("*.toml")):
        try:
            cards[path.stem] = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise TlkitError(
                f"{path}: expected a dataset card in TOML. Received: {error}. Mend or reinstall it."
            ) from error
    return cards


def read_card(name):
    """Return the card of a public dataset.

    Raises:
        DataError: If there is none of that name.
    """
    cards = read_cards()
    if name not in cards:
        raise DataError(
            f"datasets: no card is called {name!r}.{did_you_mean(name, cards)} `tlkit datasets` lists them."
        )
    return cards[name]
