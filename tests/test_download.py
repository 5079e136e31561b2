"""A download ends with the file that was meant or with one line, whatever the server and the network do."""

import hashlib
import shutil
from collections import namedtuple

import pytest
from tls_server import Served, new_authority, serve, trusted

from tlkit import download
from tlkit.download import Remote, fetch
from tlkit.errors import DownloadError

CONTENT = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(scope="module")
def authority():
    return new_authority()


@pytest.fixture
def served():
    return Served(CONTENT)


@pytest.fixture
def remote(served, authority, tmp_path, monkeypatch):
    """The file on a server that this process trusts; pauses between attempts take no time."""
    trusted(authority, tmp_path, monkeypatch)
    monkeypatch.setattr(download, "PAUSE", 0)
    with serve({"/a.bin": served, "/b.bin": Served(CONTENT)}, authority) as address:
        yield Remote(f"{address}/a.bin", "sha256", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "a.bin"


def unsized(remote):
    return Remote(remote.url, remote.algorithm, remote.checksum)


def refused(remote, path):
    with pytest.raises(DownloadError) as error:
        fetch(remote, path)
    assert "\n" not in str(error.value)
    assert not path.exists()
    return str(error.value)


@pytest.mark.parametrize("known", [True, False])
def test_a_file_arrives_whole_and_alone_and_is_not_fetched_twice(remote, served, path, known):
    seen = []
    for _ in range(2):
        fetch(remote if known else unsized(remote), path, progress=lambda *counts: seen.append(counts))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert len(served.requests) == 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_taken_up_where_it_broke_off(remote, served, path):
    served.cut_after = [700_000, 600_000]
    notes = []
    fetch(remote, path, note=notes.append)
    assert path.read_bytes() == CONTENT
    assert [of for of, _ in served.requests] == [None, "bytes=700000-", "bytes=1300000-"]
    assert served.requests[1][1] == served.etag
    assert len(notes) == 2


def test_a_later_call_goes_on_from_what_an_earlier_one_left(remote, served, path):
    served.cut_after = [900_000, 0, 0, 0, 0]
    assert "5 times in a row" in refused(remote, path)
    assert path.with_name("a.bin.part").stat().st_size == 900_000
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
    assert served.requests[-1][0] == "bytes=900000-"


def test_attempts_that_bring_something_are_not_counted(remote, served, path, monkeypatch):
    monkeypatch.setattr(download, "WORTH", 1000)
    served.cut_after = [100_000] * 12
    fetch(remote, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", [None, ""])
def test_a_server_without_ranges_or_versions_gives_all_of_it_again(remote, served, path, tag):
    served.ranges, served.tag, served.cut_after = tag is not None, tag, [900_000]
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
    assert served.requests[1][0] == (None if tag == "" else "bytes=900000-")


def test_a_file_that_changed_between_two_attempts_is_not_mixed(remote, served, path):
    served.content, served.cut_after = bytes(len(CONTENT)), [900_000, 0, 0, 0, 0]
    refused(remote, path)
    served.content = CONTENT
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
    assert served.requests[-1][0] == "bytes=900000-"  # asked for the rest, and was given the new one


def test_a_file_that_changed_without_a_word_starts_anew(remote, served, path):
    """The server still calls it by the old tag, so that the two are mixed: the checksum tells."""
    served.tag, served.content, served.cut_after = '"same"', bytes(len(CONTENT)), [900_000, 0, 0, 0, 0]
    refused(remote, path)
    served.content = CONTENT
    notes = []
    fetch(remote, path, note=notes.append)
    assert path.read_bytes() == CONTENT
    assert "starts anew" in notes[-1]


def test_more_left_than_there_is_starts_anew(remote, served, path):
    part = path.with_name("a.bin.part")
    part.write_bytes(CONTENT + b"more")
    part.with_name("a.bin.part.json").write_text('{"validator": ' + served.etag.replace('"', '"\\"', 1)[:-1] + '\\""}')
    fetch(unsized(remote), path)
    assert path.read_bytes() == CONTENT
    assert served.requests[0] == (f"bytes={len(CONTENT) + 4}-", served.etag)


@pytest.mark.parametrize("damaged", ["{", "[]", '{"validator": 3}', '{"validator": "a\\nHost: b"}', "\xff"])
def test_a_damaged_note_of_the_version_starts_anew(remote, served, path, damaged):
    part = path.with_name("a.bin.part")
    part.write_bytes(b"other bytes")
    part.with_name("a.bin.part.json").write_text(damaged, "latin-1")
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
    assert served.requests == [(None, None)]


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(remote, served, path):
    served.content = bytes(len(CONTENT))
    said = refused(remote, path)
    assert f"Expected sha256 {remote.checksum}" in said
    assert not list(path.parent.iterdir())
    assert len(served.requests) == 1


def test_md5_is_compared_where_nothing_else_is_published(remote, path):
    fetch(Remote(remote.url, "md5", hashlib.md5(CONTENT).hexdigest()), path)
    assert path.read_bytes() == CONTENT


def test_a_wrong_length_is_refused_before_anything_comes(remote, served, path):
    served.content = CONTENT[:-1]
    assert "expected 2,097,152 bytes. The server has 2,097,151" in refused(remote, path)
    assert not list(path.parent.iterdir())


def test_a_stream_without_end_is_cut(remote, served, path):
    served.content, served.length = CONTENT + bytes(10**6), 0
    assert "More came" in refused(remote, path)
    assert path.with_name("a.bin.part").stat().st_size <= len(CONTENT)


def test_a_silent_server_is_given_up(remote, served, path, monkeypatch):
    monkeypatch.setattr(download, "SILENCE", 0.4)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    served.stall = 1.5
    assert "nothing came for 0.4 s, 2 times in a row" in refused(remote, path)


def test_a_dripping_server_is_given_up(remote, served, path, monkeypatch):
    monkeypatch.setattr(download, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    served.drip = 0.02
    assert "bytes came in 0.1 s" in refused(remote, path)


def test_errors_of_the_server_are_tried_again_if_they_may_pass(remote, served, path):
    served.status = [503, 429]
    fetch(remote, path)
    served.status = [404]
    path.unlink()
    assert "the server answers 404" in refused(remote, path)
    assert len(served.requests) == 4


def test_a_redirection_is_followed_to_tls_only(remote, served, path):
    elsewhere = remote.url.replace("a.bin", "b.bin")
    served.location = elsewhere
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
    path.unlink()
    for location in (elsewhere.replace("https", "http"), "file:///etc/hostname", "ftp://localhost/a.bin"):
        served.location = location
        refused(remote, path)
    served.location = remote.url
    assert "302" in refused(remote, path)


@pytest.mark.parametrize(
    "url", ["http://localhost/a.bin", "file:///etc/hostname", "/etc/hostname", "ftp://localhost/a"]
)
def test_nothing_but_tls_is_opened(url, path):
    assert "isn't https" in refused(Remote(url, "sha256", "0" * 64), path)


def test_a_certificate_of_somebody_else_is_refused(remote, path, tmp_path, monkeypatch):
    trusted(new_authority(), tmp_path, monkeypatch)
    assert "certificate isn't trusted" in refused(remote, path)


def test_no_network_is_one_line(path, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", unreachable)
    said = refused(Remote("https://localhost/a.bin", "sha256", "0" * 64), path)
    assert "Is there a network?" in said
    assert not list(path.parent.iterdir())


def test_a_disk_without_room_is_noticed_first(remote, path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 1000))
    assert "2,097,152 bytes are needed" in refused(remote, path)
    assert not list(path.parent.iterdir())


def test_a_disk_that_fills_up_keeps_what_has_come(remote, path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, hard))
    try:
        assert "File too large" in refused(remote, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.with_name("a.bin.part").stat().st_size == 900_000
    fetch(remote, path)
    assert path.read_bytes() == CONTENT
