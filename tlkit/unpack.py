"""Unpack an archive from a stranger: only plain files, only below its folder, only as much as it may hold."""

import gzip
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from functools import partial

from tlkit.errors import ArchiveError

ZIP, TAR = (".zip",), (".tar.gz", ".tgz")
MOST_FILES = 1_000_000
MOST_TIMES, ALLOWANCE = 10, 2**20  # an archive may hold that many times its own bytes, and that much besides
LONGEST_NAME, DEEPEST = 255, 32  # bytes of a name, names of a path
CHUNK = 2**20
LARGEST_READ = 2**24  # bytes of a tar at once: a header of any size would be read as a whole
SIDECARS = ("__MACOSX", ".DS_Store")  # what a Mac adds; left out, as are files that begin with "._"
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # of headers nested without end, and of methods that zipfile doesn't know
)


def is_archive(name):
    """Tell from its name whether a file is an archive that `unpack` knows."""
    return name.lower().endswith(ZIP + TAR)


def unpack(archive, folder):
    """Unpack a .zip, .tgz or .tar.gz; archives in it stay as they are.

    All is refused, not left out, that isn't a plain file or a folder (links, devices, sparse files), that isn't named
    below the folder, that comes twice (also where upper and lower case are one), and more than `MOST_FILES` files or
    `MOST_TIMES` the archive's bytes. What was written until then is left: unpack into a folder that is thrown away.

    Args:
        archive: `pathlib.Path` of the archive.
        folder: `pathlib.Path` of a folder that exists and that nobody else writes to.

    Raises:
        ArchiveError: In one line, if the archive is damaged, hostile, or needs more room than there is.
    """
    target = _Target(archive, folder)
    try:
        if archive.name.lower().endswith(ZIP):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except DAMAGE as error:
        raise ArchiveError(f"{archive.name}: is damaged: {error or type(error).__name__}") from None
    except OSError as error:
        raise ArchiveError(
            f"{error.filename or folder}: can't be written: {error.strerror}. Mend that, try again."
        ) from None


class _Target:
    """The folder that an archive's files are written to, and what has been written."""

    def __init__(self, archive, folder):
        self.room = MOST_TIMES * archive.stat().st_size + ALLOWANCE
        self._archive, self._folder = archive, folder
        self._written = self._members = 0
        self._taken = {}  # path as a file system may see it, to the path and whether it is a folder

    def refuse(self, what):
        """Raise the `ArchiveError` that says why."""
        raise ArchiveError(f"{self._archive.name}: is refused, because {what}.")

    def add_folder(self, name):
        """Make a folder."""
        if path := self._place(name.rstrip("/"), True):
            path.mkdir(parents=True, exist_ok=True)

    def add_file(self, name, size, source):
        """Write a file.

        Args:
            name: As the archive has it.
            size: As the archive says.
            source: Function that opens it for reading.
        """
        path = self._place(name, False)
        self._written += size
        if size < 0 or self._written > self.room:
            self.refuse(f"it holds more than {self.room:,} bytes, {MOST_TIMES} times its own size")
        if path is None:
            return
        if size > shutil.disk_usage(self._folder).free:
            raise ArchiveError(f"{self._folder}: {size:,} bytes are needed for {name!r}. Make room there.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with source() as content, path.open("xb") as file:
            left = size
            while left and (chunk := content.read(min(left, CHUNK))):
                left -= file.write(chunk)
        if left:
            raise EOFError(f"{name!r} is cut short")

    def _place(self, name, is_folder):
        """Return where a member goes; None for the folder itself and for what a Mac adds."""
        self._members += 1
        if self._members > MOST_FILES:
            self.refuse(f"it holds more than {MOST_FILES:,} files")
        parts = name.split("/")
        parts = parts[1:] if parts[0] == "." else parts
        for part in parts:
            if part in ("", "..", ".") or "\\" in part or ":" in part or not part.isprintable():
                self.refuse(f"{name!r} is no plain path below its folder")
            if len(part.encode()) > LONGEST_NAME:
                self.refuse(f"the name {part[:20] + '...'!r} is longer than {LONGEST_NAME} bytes")
        if len(parts) > DEEPEST:
            self.refuse(f"{'/'.join(parts[:3]) + '/...'!r} lies more than {DEEPEST} folders deep")
        for depth in range(1, len(parts) + 1):
            self._take("/".join(parts[:depth]), is_folder or depth < len(parts))
        if not parts or any(part in SIDECARS or part.startswith("._") for part in parts):
            return None
        return self._folder.joinpath(*parts)

    def _take(self, path, is_folder):
        """Refuse a path that is taken: by a file, or by one that some file systems don't tell from it."""
        taken = self._taken.setdefault(unicodedata.normalize("NFC", path).casefold(), (path, is_folder, self._members))
        if taken[:2] != (path, is_folder) or not (is_folder or taken[2] == self._members):
            self.refuse(f"{path!r} is in it twice: as {taken[0]!r} before, as a {'folder' if taken[1] else 'file'}")


def _unpack_zip(archive, target):
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                target.refuse(f"{member.filename!r} is a link or a device")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                target.refuse(f"{member.filename!r} is encrypted, or packed in an uncommon way")
            if member.is_dir():
                target.add_folder(member.filename)
            else:
                target.add_file(member.filename, member.file_size, partial(opened.open, member))


def _unpack_tar(archive, target):
    with gzip.open(archive) as stream:
        bounded = _Bounded(stream, target)
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            _unpack_members(opened, target)
        while bounded.read(CHUNK):  # to the end, where the checksum is
            pass


def _unpack_members(opened, target):
    while (member := opened.next()) is not None:
        if member.isdir():
            target.add_folder(member.name)
        elif member.isfile() and not member.issparse():
            target.add_file(member.name, member.size, partial(opened.extractfile, member))
        else:
            target.refuse(f"{member.name!r} is a link, a device or a sparse file")
        opened.members = []  # or it would remember all of them


class _Bounded:
    """An unpacked stream that ends where an archive holds too much, and that is read in pieces that fit the memory."""

    def __init__(self, stream, target):
        self._stream, self._target = stream, target
        self._end = 2 * target.room  # of headers, too, and of what fills up blocks
        self.tell = stream.tell

    def read(self, size):
        """Return the next bytes."""
        if size > LARGEST_READ:
            self._target.refuse(f"a header in it takes {size:,} bytes")
        self._go_to(self.tell() + size)
        return self._stream.read(size)

    def seek(self, position):
        """Go to a position."""
        self._go_to(position)
        return self._stream.seek(position)

    def _go_to(self, position):
        if position > self._end:
            self._target.refuse(f"it unpacks to more than {self._end:,} bytes, {2 * MOST_TIMES} times its own size")
