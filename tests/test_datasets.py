"""Every dataset card is complete and consistent with itself. No network: links are checked for their form only."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest

from tlkit.data.public import MAKERS
from tlkit.download import CHECKSUMS
from tlkit.share import read_cards, share_folder

NAMES = {
    "beans",
    "cats_vs_dogs",
    "cifar10",
    "eurosat",
    "flowers102",
    "food101",
    "hymenoptera",
    "imagenette",
    "mnist",
    "oxford_pets",
}
CARD_KEYS = {
    "name": str,
    "title": str,
    "description": str,
    "source": str,
    "licence": str,
    "citation": str,
    "images": int,
    "classes": int,
    "splits": dict,
    "image_size": str,
    "layout": str,
    "get": dict,
    "files": list,
    "reference": list,
}
FILE_KEYS = {"url": str}
REFERENCE_KEYS = {"model": str, "metric": str, "accuracy": float, "source": str}
CHECKSUM_DIGITS = {"md5": 32, "sha256": 64}
PATHS = sorted(share_folder("datasets").glob("*.toml"))


def check_keys(table, required, optional):
    """Every required key is there with its type and content, and no key is a stranger."""
    for key, kind in required.items():
        assert type(table[key]) is kind, key
        assert kind is not str or table[key].strip(), key
    assert set(table) <= set(required) | set(optional)


def check_link(link):
    parts = urlsplit(link)
    assert parts.scheme == "https"
    assert "." in parts.netloc
    assert not re.search(r"\s", link)


def test_the_ten_cards_are_there():
    assert set(read_cards()) == NAMES


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def card(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_card_is_complete(path, card):
    check_keys(card, CARD_KEYS, {"notes"})
    assert card["name"] == path.stem
    assert "\n" not in card["description"]
    check_link(card["source"])


def test_splits_are_named_as_tlkit_names_them_and_add_up(card):
    assert set(card["splits"]) <= {"train", "val", "test"}
    assert all(type(count) is int and count > 0 for count in card["splits"].values())
    if card["splits"]:
        assert sum(card["splits"].values()) == card["images"]
    assert 2 <= card["classes"] <= card["images"]


def test_files_have_a_checksum_with_its_publisher_or_say_that_none_is_published(card):
    assert card["files"]
    for file in card["files"]:
        check_keys(file, FILE_KEYS, {"bytes", "checksum", "checksum_source", *CHECKSUM_DIGITS})
        check_link(file["url"])
        if "bytes" in file:
            assert type(file["bytes"]) is int
            assert file["bytes"] > 0
        published = set(file) & set(CHECKSUM_DIGITS)
        for kind in published:
            assert re.fullmatch(f"[0-9a-f]{{{CHECKSUM_DIGITS[kind]}}}", file[kind])
        if published:
            check_link(file["checksum_source"])
            assert "checksum" not in file
        else:
            assert file["checksum"] == "not published"


def test_references_name_model_figure_and_paper(card):
    assert card["reference"]
    for reference in card["reference"]:
        check_keys(reference, REFERENCE_KEYS, {"notes"})
        check_link(reference["source"])
        assert 1 / card["classes"] < reference["accuracy"] < 1


def test_mnist_names_the_file_that_keras_downloads():
    """An independent copy of the published sum: that which Keras itself checks."""
    [keras] = find_spec("keras").submodule_search_locations  # read as text: importing Keras takes seconds
    code = (Path(keras) / "src" / "datasets" / "mnist.py").read_text(encoding="utf-8")
    assert read_cards()["mnist"]["files"][0]["sha256"] in code


def test_get_names_what_data_takes_and_who_makes_it(card):
    assert set(card["get"]) <= {"data", "build"}
    assert card["get"]["data"]
    made = PurePosixPath(card["get"]["data"]).suffix and card["files"][0]["url"].rpartition(".")[2] != "npz"
    assert ("build" in card["get"]) == bool(made)
    assert card["get"].get("build", "cifar10") in MAKERS


def test_every_file_can_be_told_from_another_and_has_a_name_of_its_own(card):
    assert all(set(file) & set(CHECKSUMS) for file in card["files"])
    names = [PurePosixPath(urlsplit(file["url"]).path).name for file in card["files"]]
    assert len(set(names)) == len(names)


def test_hymenoptera_counts_are_those_of_the_photos(shared_data):
    photos = list((shared_data / "hymenoptera" / "val").glob("*/*.jpg"))
    assert len(photos) == read_cards()["hymenoptera"]["splits"]["val"]
