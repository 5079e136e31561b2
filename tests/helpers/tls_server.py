"""A file server on loopback that speaks TLS with a certificate of its own, and misbehaves as it is told."""

import contextlib
import hashlib
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme


class Served:
    """One file and how it is served; `requests` are the `(Range, If-Range)` that were received.

    Attributes:
        content: Its bytes.
        ranges: Whether ranges are understood.
        cut_after: Numbers of bytes after which the next answers break off; empty for none.
        stall: Seconds of silence after the first byte.
        drip: Seconds between single bytes.
        length: The `Content-Length` that is told, where it isn't the true one; 0 for none.
        status: Answers of an error, in order, before the file.
        location: Where the file is said to be.
        tag: The ETag; by default the hash of the content; `""` for none.
    """

    def __init__(self, content=b""):
        self.content = content
        self.ranges, self.cut_after, self.stall, self.drip = True, [], 0, 0
        self.length, self.status, self.location, self.tag = None, [], None, None
        self.requests = []

    @property
    def etag(self):
        return f'"{hashlib.md5(self.content).hexdigest()}"' if self.tag is None else self.tag


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing: who asked went away, or trusted nobody."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        served = self.server.files.get(self.path)
        if served is None:
            return self.send_error(404)
        served.requests.append((self.headers.get("Range"), self.headers.get("If-Range")))
        if served.status:
            return self.send_error(served.status.pop(0))
        if served.location:
            self.send_response(302)
            self.send_header("Location", served.location)
            return self.end_headers()
        return self._send(served)

    def _send(self, served):
        start, wanted = 0, self.headers.get("Range")
        if wanted and served.ranges and self.headers.get("If-Range") == served.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(served.content):
                return self.send_error(416)
        content = served.content[start:]
        self.send_response(206 if start else 200)
        if served.length != 0:
            self.send_header("Content-Length", str(served.length or len(content)))
        if served.etag:
            self.send_header("ETag", served.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked may have gone
            self._send_content(served, content)
        return None

    def _send_content(self, served, content):
        if served.stall or served.drip:
            self.wfile.write(content[:1])
            time.sleep(served.stall)
            for k in range(1, len(content) if served.drip else 1):
                self.wfile.write(content[k : k + 1])
                time.sleep(served.drip)
            return
        if served.cut_after:
            content = content[: served.cut_after.pop(0)]
            self.close_connection = True
        self.wfile.write(content)


@contextlib.contextmanager
def serve(files, authority):
    """Serve a dict of path to `Served` over TLS; yield the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with _Server(("localhost", 0), _Handler) as server:
        server.files = files
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def trusted(authority, folder, monkeypatch):
    """Let this process trust a certificate authority, as users do with one of their own."""
    authority.cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))


def new_authority():
    """Return a certificate authority."""
    return trustme.CA()
