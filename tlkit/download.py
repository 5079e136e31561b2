"""Download a file over TLS: what broke off goes on where it stopped, and only the file that was meant is kept."""

import hashlib
import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from tlkit.errors import DownloadError

SILENCE = 30  # seconds without a byte after which a connection counts as cut
LEAST_BYTES, LEAST_SECONDS = 2**16, 60  # what has to come in that time
ATTEMPTS, PAUSE = 5, 2  # in a row that bring next to nothing, and the seconds before the second of them
WORTH = 2**20  # bytes that make an attempt count as one that brought something
CHUNK = 2**18
MOST_BYTES = 2**36  # of a file whose size nobody tells
CHECKSUMS = ("sha256", "md5")  # the stronger first


@dataclass(frozen=True)
class Remote:
    """A file on the network.

    Attributes:
        url: Where it is; nothing but https is followed.
        algorithm, checksum: One of `CHECKSUMS`, and the file's in hexadecimal digits.
        size: Its bytes, where they are known.
    """

    url: str
    algorithm: str
    checksum: str
    size: int | None = None


class _BrokenError(Exception):
    """An attempt that another may go on from; `status` is the server's answer, 0 if there was none at all."""

    def __init__(self, reason, status=200):
        super().__init__(reason)
        self.status = status


def fetch(remote, path, *, progress=None, note=None):
    """Download a file; it appears whole and with the right checksum, or not at all.

    What has come lies in `<path>.part`, beside it in `<path>.part.json` which version of the file it is of. A later
    call goes on from there if the server still has that version (`If-Range`), and starts anew otherwise.

    Args:
        remote: `Remote`.
        path: `pathlib.Path` of the file, in a folder that exists. One that is there and has the checksum stays.
        progress: Function of the bytes there so far and their total (0 where that is unknown).
        note: Function of a line worth knowing.

    Raises:
        DownloadError: In one line, if the server can't be reached or trusted, breaks off again and again, has another
            file, or there is no room.
    """
    progress, note = progress or (lambda done, total: None), note or (lambda text: None)
    if path.is_file() and checksum_of(path, remote.algorithm) == remote.checksum:
        return
    part, version = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    try:
        anew = not part.is_file()
        while True:
            _receive_all(remote, part, version, progress, note)
            received = checksum_of(part, remote.algorithm)
            if received == remote.checksum:
                break
            part.unlink()
            version.unlink(missing_ok=True)
            if anew:
                raise DownloadError(
                    f"{remote.url}: is not the file that was meant. Expected {remote.algorithm} {remote.checksum}, "
                    f"received {received}. It was deleted; try again later."
                )
            note(f"{path.name}: what an earlier download left has another checksum; it starts anew")
            anew = True
        part.replace(path)
        version.unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{error.filename or part}: can't be written: {error.strerror}. Mend that, try again."
        ) from None


def checksum_of(path, algorithm):
    """Return a file's checksum in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _receive_all(remote, part, version, progress, note):
    """Attempt it until the file is there; attempts that bring something don't count."""
    failed, came = 0, False
    while True:
        before = part.stat().st_size if part.is_file() else 0
        if remote.size and before == remote.size:
            return
        try:
            _receive(remote, part, version, progress)
            return
        except _BrokenError as reason:
            gained = (part.stat().st_size if part.is_file() else 0) - before
            failed, came = 1 if gained >= WORTH else failed + 1, came or gained > 0
            if not (reason.status or came):
                raise DownloadError(f"{remote.url}: {reason}. Is there a network? Try again with one.") from None
            if failed == ATTEMPTS:
                raise DownloadError(
                    f"{remote.url}: {reason}, {ATTEMPTS} times in a row. What has come is kept; try again later."
                ) from None
            if reason.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                version.unlink(missing_ok=True)  # the file is shorter now than what has come
            note(f"{part.name}: {reason}; goes on in {PAUSE * 2 ** (failed - 1)} s")
        time.sleep(PAUSE * 2 ** (failed - 1))


def _receive(remote, part, version, progress):
    """Receive what is missing, in one connection."""
    have, validator = _begun(part, version)
    asked = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    with _open(remote.url, asked) as response:
        start = have if _continues(response, have) else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else 0
        if remote.size and total not in (0, remote.size):
            raise DownloadError(
                f"{remote.url}: expected {remote.size:,} bytes. The server has {total:,}: another file."
            )
        if shutil.disk_usage(part.parent).free < total - start:
            raise DownloadError(f"{part.parent}: {total - start:,} bytes are needed for {remote.url}. Make room there.")
        with part.open("r+b" if start else "wb", buffering=0) as file:
            version.write_text(json.dumps({"validator": _validator(response.headers)}), "utf-8")
            file.truncate(start)
            file.seek(start)
            received = _copy(response, file, start, remote.size or total or MOST_BYTES, lambda n: progress(n, total))
    if received < (remote.size or total):
        raise _BrokenError(f"{received:,} of {remote.size or total:,} bytes came")


def _begun(part, version):
    """Return how many bytes of a file lie there, and what tells the server which version they are of."""
    try:
        validator = json.loads(version.read_text("utf-8"))["validator"]
        usable = isinstance(validator, str) and validator.isascii() and validator.isprintable()
        return (part.stat().st_size, validator) if usable else (0, None)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, None


def _validator(headers):
    """Return the header that `If-Range` takes: a strong ETag or a date; None if the server gives neither."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _continues(response, have):
    """Tell whether an answer goes on after `have` bytes, and isn't the file from its beginning."""
    return (
        bool(have) and response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    )


def _copy(response, file, received, limit, progress):
    """Write what comes to a file; return how many bytes it has then."""
    since, then = time.monotonic(), received
    while chunk := _read(response):
        received += len(chunk)
        if received > limit:
            raise DownloadError(f"{response.url}: expected {limit:,} bytes. More came: it is another file.")
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.write(rest) :]
        progress(received)
        if time.monotonic() - since > LEAST_SECONDS:
            if received - then < LEAST_BYTES:
                raise _BrokenError(f"only {received - then} bytes came in {LEAST_SECONDS} s")
            since, then = time.monotonic(), received
    return received


def _read(response):
    try:
        return response.read1(CHUNK)
    except TimeoutError:
        raise _BrokenError(f"nothing came for {SILENCE} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection was cut ({error or type(error).__name__})") from None


class _TlsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https, and to nothing else."""

    max_redirections = 5

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise DownloadError(f"{req.full_url}: is refused, because it leads to {newurl}, which isn't https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_tls(url, headers, timeout):
    """Return a server's answer as `urllib.request.urlopen` does, over TLS from beginning to end.

    Raises:
        DownloadError: If it isn't https, or leads elsewhere than to https.
        OSError: If there is no answer, or it is an error.
    """
    if urlsplit(url).scheme != "https":
        raise DownloadError(f"{url}: is refused, because it isn't https.")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _TlsOnly(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "tlkit")]
    return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)


def _open(url, headers):
    """Return the server's answer.

    Raises:
        _BrokenError: If it is worth another attempt.
        DownloadError: If it isn't.
    """
    try:
        return open_tls(url, headers, SILENCE)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {' '.join(str(error.reason).split())}"
        if error.code in (416, 429) or error.code >= 500:
            raise _BrokenError(answer, error.code) from None
        raise DownloadError(f"{url}: {answer}.") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: is refused, because its certificate isn't trusted: {error.reason.verify_message}."
            ) from None
        raise _BrokenError(f"can't be reached ({error.reason})", 0) from None
    except (OSError, http.client.HTTPException) as error:  # after the connection was made
        raise _BrokenError(f"no answer ({error or type(error).__name__})") from None
