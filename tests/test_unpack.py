"""What comes out of an archive lies below its folder and is what the archive's own size allows; all else is refused."""

import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit import unpack as unpacking
from tlkit.errors import ArchiveError
from tlkit.unpack import is_archive, unpack

GOOD = {"set/a/1.jpg": b"one", "set/b/2.jpg": b"two" * 1000, "set/ünï.txt": b""}


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return path


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITERS = {"archive.zip": write_zip, "archive.tgz": write_tar, "archive.tar.gz": write_tar}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Function from members to an archive of one of the kinds."""
    return lambda members: WRITERS[request.param](tmp_path / request.param, members)


@pytest.fixture
def folder(tmp_path):
    """A folder to unpack into; that nothing was written beside it is checked at the end."""
    around = tmp_path / "around"
    (around / "in").mkdir(parents=True)
    yield around / "in"
    assert [path.name for path in around.iterdir()] == ["in"]


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive, folder):
    with pytest.raises(ArchiveError) as error:
        unpack(archive, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_come_out_as_they_went_in(write, folder):
    archive = write(GOOD)
    assert is_archive(archive.name)
    unpack(archive, folder)
    assert files_in(folder) == GOOD
    assert not is_archive("mnist.npz")


def test_real_tools_archives_are_read(folder, tmp_path):
    """With entries for folders, a leading `./`, and what a Mac adds."""
    source = tmp_path / "source"
    for name, content in (
        GOOD | {"__MACOSX/set/._a": b"mac", "set/a/._1.jpg": b"mac", "set/.DS_Store": b"mac"}
    ).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    (source / "set" / "empty").mkdir()
    for kind in ("zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / "made"), kind, source)
        target = folder / kind
        target.mkdir()
        unpack(tmp_path / os.path.basename(archive), target)  # noqa: PTH119
        assert files_in(target) == GOOD
        assert (target / "set" / "empty").is_dir()


ODD_NAMES = {
    "above": "../evil.txt",
    "above, later": "set/../../evil.txt",
    "inside, but roundabout": "set/../evil.txt",
    "absolute": "/tmp/tlkit-evil.txt",
    "of another system": "..\\evil.txt",
    "on a drive": "C:/evil.txt",
    "a stream": "set/a.txt:stream",
    "an empty part": "set//evil.txt",
    "a dot": "set/./evil.txt",
    "a line end": "set/evil\n.txt",
    "an escape": "set/\x1b[31m.txt",
    "not UTF-8": "set/\udcff.txt",
    "too long": "set/" + "x" * 300,
    "too deep": "/".join("x" * 40) + "/evil.txt",
}


@pytest.mark.parametrize("odd", ODD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(odd, write, folder, monkeypatch):
    monkeypatch.setattr(zipfile.os, "sep", "/")
    try:
        archive = write({"set/good.txt": b"", ODD_NAMES[odd]: b"evil"})
    except UnicodeEncodeError:
        pytest.skip("a zip names its files in UTF-8")
    said = refused(archive, folder)
    assert "is refused, because" in said
    assert list(files_in(folder)) == ["set/good.txt"]


TWICE = {
    "a file": [("set/a.txt", b"1"), ("set/a.txt", b"2")],
    "in upper case": [("set/a.txt", b"1"), ("set/A.txt", b"2")],
    "a folder in upper case": [("set/a.txt", b"1"), ("Set/b.txt", b"2")],
    "in another form of Unicode": [("set/\u00e9.txt", b"1"), ("set/e\u0301.txt", b"2")],
    "a file as a folder": [("set/a", b"1"), ("set/a/b", b"2")],
    "a folder as a file": [("set/a/b", b"1"), ("set/a", b"2")],
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_that_comes_twice_is_refused(kind, write, folder):
    assert "is in it twice" in refused(write(TWICE[kind]), folder)


def special(kind, target="/etc/passwd"):
    member = tarfile.TarInfo("set/evil")
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"?"],
)
def test_a_tar_of_links_or_devices_is_refused(kind, folder, tmp_path):
    archive = write_tar(tmp_path / "a.tgz", [(special(kind), b""), ("set/evil/passwd", b"root::0:0")])
    if kind == tarfile.CONTTYPE:  # which tarfile takes for a file: then the second is below a file
        assert "is in it twice" in refused(archive, folder)
    else:
        assert "'set/evil' is a link, a device or a sparse file" in refused(archive, folder)
        assert not list(folder.iterdir())


def test_a_sparse_file_is_refused(folder, tmp_path):
    member = tarfile.TarInfo("set/huge")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    content = b"1\n0\n0\n".ljust(512, b"\0")
    archive = tmp_path / "a.tgz"
    member.size = len(content)
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(member, io.BytesIO(content))
    assert "sparse" in refused(archive, folder)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_of_links_or_devices_is_refused(kind, folder, tmp_path):
    member = zipfile.ZipInfo("set/evil")
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", [(member, "/etc/passwd")])
    assert "'set/evil' is a link or a device" in refused(archive, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, zipfile.ZIP_LZMA), (10, 99)])
def test_a_zip_that_is_encrypted_or_oddly_packed_is_refused(offset, value, folder, tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.txt": b"text"})
    content = bytearray(archive.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\1\2") + offset, value)
    archive.write_bytes(content)
    assert "is encrypted, or packed in an uncommon way" in refused(archive, folder)


def test_a_bomb_of_one_large_file_is_refused(write, folder):
    archive = write({"zeros": bytes(20 * 2**20)})
    assert archive.stat().st_size < 40_000
    assert "10 times its own size" in refused(archive, folder) or "20 times its own size" in refused(archive, folder)
    assert sum(map(len, files_in(folder).values())) <= 2 * 2**20


def test_a_bomb_of_many_files_is_refused(write, folder, monkeypatch):
    archive = write({f"{number}.txt": bytes(40_000) for number in range(200)})
    assert "more than" in refused(archive, folder)
    assert len(files_in(folder)) < 100
    monkeypatch.setattr(unpacking, "MOST_FILES", 5)
    (folder / "again").mkdir()
    assert "more than 5 files" in refused(archive, folder / "again")


def test_a_tar_of_empty_members_without_end_is_refused(folder, tmp_path):
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(special(tarfile.DIRTYPE).tobuf() * 20_000))
    assert "20 times its own size" in refused(archive, folder)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(kind, folder, tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**32
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(header.tobuf() + bytes(2**16)))
    assert "a header in it takes" in refused(archive, folder)


def test_a_zip_whose_files_share_their_bytes_is_refused(folder, tmp_path):
    """Many entries of the directory, one piece of packed data."""
    archive = write_zip(tmp_path / "a.zip", {"0": os.urandom(2**16) + bytes(2**19)})
    content = archive.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[start:end]
    directory = b"".join(entry[:46] + str(number).encode() for number in range(10))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 10, 10, len(directory), start, 0)
    archive.write_bytes(content[:start] + directory + tail)
    refused(archive, folder)
    assert sum(map(len, files_in(folder).values())) < 2**21


def test_archives_in_an_archive_stay_as_they_are(write, folder, tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"a.txt": b"text"}).read_bytes()
    unpack(write({"set/inner.zip": inner}), folder)
    assert files_in(folder) == {"set/inner.zip": inner}


def test_a_damaged_archive_is_one_line(write, folder):
    archive = write({"a.bin": os.urandom(100_000)})
    whole = archive.read_bytes()
    for damaged in (whole[:50_000], whole[:50_000] + bytes(9) + whole[50_009:], b"", b"PK", whole[:-9]):
        archive.write_bytes(damaged)
        target = folder / str(len(list(folder.iterdir())))
        target.mkdir()
        assert "is damaged" in refused(archive, target)


def test_a_disk_without_room_is_one_line(write, folder, monkeypatch):
    archive = write({"a.bin": os.urandom(100_000)})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 1000))
    assert "100,000 bytes are needed" in refused(archive, folder)


def test_a_disk_that_fills_up_is_one_line(write, folder):
    resource = pytest.importorskip("resource")
    archive = write({"a.bin": os.urandom(100_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        assert "File too large" in refused(archive, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["a.zip", "a.tgz"]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), max_size=4),
)
def test_whatever_an_archive_holds_it_is_unpacked_or_refused(kind, cuts, workplace):
    """Bytes changed at random: of a tar before it is packed, so that its headers are hit."""
    path = workplace / kind
    content = bytearray((write_zip if kind == "a.zip" else write_tar)(path, GOOD).read_bytes())
    content = content if kind == "a.zip" else bytearray(gzip.decompress(content))
    for place, piece in cuts:
        start = int(place * len(content))
        content[start : start + len(piece)] = piece
    path.write_bytes(content if kind == "a.zip" else gzip.compress(content, 1))
    shutil.rmtree(workplace / "in", ignore_errors=True)
    (workplace / "in").mkdir()
    try:
        unpack(path, workplace / "in")
    except ArchiveError as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert {entry.name for entry in workplace.iterdir()} <= {"in", "a.zip", "a.tgz"}
