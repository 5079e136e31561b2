"""Sizes as people write them."""

import pytest

from tlkit.errors import TlkitError
from tlkit.training.sizes import format_size, parse_size

SIZES = {"0": 0, "1000": 1000, "12B": 12, "5KB": 5000, "20GB": 20 * 10**9, "20G": 20 * 10**9, "1.5 tb": 15 * 10**11}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "20 PB", "1,5GB", "20GB of disk", "٣"])
def test_what_is_no_size_is_the_users_to_mend(text):
    with pytest.raises(TlkitError, match=r"such as 20GB. Received: ") as error:
        parse_size(text)
    assert len(str(error.value).splitlines()) == 1


def test_sizes_are_written_for_people():
    assert [format_size(size) for size in (0, 999, 1000, 1_540_000, 20 * 10**9)] == [
        "0 B",
        "999 B",
        "1.0 KB",
        "1.5 MB",
        "20.0 GB",
    ]
