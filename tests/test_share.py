"""The shared folders are found in both layouts, and a broken installation says so."""

import pytest

from tlkit import share
from tlkit.errors import TlkitError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty place where tlkit seems to be installed."""
    folder = tmp_path / "site-packages" / "tlkit"
    folder.mkdir(parents=True)
    monkeypatch.setattr(share, "PACKAGE", folder)
    return folder


def put_card(folder, name="roses", text='name = "roses"\n'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def test_checkout_has_the_folder_beside_the_package(package):
    folder = put_card(package.parent / "datasets")
    assert share.share_folder("datasets") == folder
    assert share.read_cards() == {"roses": {"name": "roses"}}


def test_wheel_has_the_folder_inside_the_package(package):
    folder = put_card(package / "_share" / "datasets")
    put_card(package.parent / "datasets", "stranger")  # some other package of that name
    assert share.share_folder("datasets") == folder
    assert list(share.read_cards()) == ["roses"]


def test_another_package_named_datasets_is_not_taken_for_ours(package):
    (package.parent / "datasets").mkdir()
    (package.parent / "datasets" / "__init__.py").touch()
    with pytest.raises(TlkitError, match="Install tlkit again"):
        share.share_folder("datasets")


def test_missing_folder_is_one_clear_line(package):
    with pytest.raises(TlkitError, match="recipes") as caught:
        share.share_folder("recipes")
    assert "\n" not in str(caught.value)


def test_broken_card_names_its_file(package):
    put_card(package.parent / "datasets", "tulips", "name = tulips\n")
    with pytest.raises(TlkitError, match=r"tulips\.toml"):
        share.read_cards()
