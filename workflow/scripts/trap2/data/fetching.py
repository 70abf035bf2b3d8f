"""Fetch one file over HTTP: bounded in size and in time, and only from where it may come."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from trap2.data.target import shown
from trap2.runtime import files

CHUNK = 2**20


TIMEOUT_SECONDS = 60


# Less in TIMEOUT_SECONDS is no download: whole days would pass over it.
STALL_BYTES = 2**16


# Of a file whose size nothing says in advance; the largest of these has 3 GB.
SIZE_LIMIT = 8 * 2**30


REPORT_BYTES = 256 * 2**20


REDIRECTS = 5

Log = Callable[[str], None]


class DownloadError(files.FileError):
    """A file that could not be fetched whole; the message lists each attempt."""


class ChecksumError(files.FileError):
    """A file whose size or content is not the expected one."""


def stream(url: str, size: int | None, log: Log, token: str | None = None) -> Iterator[bytes]:
    """The body of a file, chunk by chunk.

    Args:
        url: ``http://`` or ``https://``.
        size: bytes expected; without it at most :data:`SIZE_LIMIT` are taken.
        log: called with a line now and then.
        token: for the first host alone.

    Raises:
        DownloadError: no such file, a server that stalls or breaks off, a redirection to another
            scheme or from https to http, a body of unknown size without end.
        ChecksumError: the body is, or is announced to be, of another size than expected; it is
            not received any further.
    """
    watch = _Watch()
    received = 0
    announced: int | None = None
    try:
        with _open(url, token, watch) as response:
            announced = _announced(url, response, size)
            reported = 0
            while chunk := response.read1(CHUNK):
                received += len(chunk)
                watch.received = received
                if received > (SIZE_LIMIT if size is None else size):
                    raise _too_long(url, size)
                if received - reported >= REPORT_BYTES:
                    reported = received
                    of = f" of {(announced or size or 0) / 2**20:.0f}" if announced or size else ""
                    log(f"{url}: {received / 2**20:.0f}{of} MiB")
                yield chunk
    except files.FileError:
        raise
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        if not watch.stalled:
            raise DownloadError(f"{url}: {shown(str(error))}") from None
    finally:
        watch.done.set()
    if watch.stalled:
        raise DownloadError(
            f"{url}: stalls after {received} bytes: less than {STALL_BYTES} in {TIMEOUT_SECONDS} s"
        )
    if announced is not None and received != announced:
        raise DownloadError(f"{url}: broke off after {received} of {announced} bytes")


def _announced(url: str, response: Any, size: int | None) -> int | None:
    """The size that the answer's header names, if it is one that may come."""
    if response.status != 200:
        raise DownloadError(f"{url}: the server answers with status {response.status}, not 200")
    text = response.headers.get("Content-Length", "")
    announced = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
    if announced is None:
        return None
    if size is not None and announced != size:
        kind = shown(response.headers.get("Content-Type", "no type"))
        raise ChecksumError(f"{url}: announces {announced} bytes, expected {size} ({kind})")
    if announced > SIZE_LIMIT and size is None:
        raise _too_long(url, size)
    return announced


def _too_long(url: str, size: int | None) -> files.FileError:
    if size is None:
        return DownloadError(
            f"{url}: more than {SIZE_LIMIT} bytes; larger files need their size in the catalogue"
        )
    return ChecksumError(f"{url}: more than {size} bytes, expected {size}")


class _Watch:
    """Ends a connection over which too little comes, be it headers, a body or what follows it."""

    def __init__(self) -> None:
        self.received = 0
        self.stalled = False
        self.socket: socket.socket | None = None
        self.done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        before = 0
        while not self.done.wait(TIMEOUT_SECONDS):
            if self.received - before < STALL_BYTES:
                self.stalled = True
                if self.socket is not None:
                    with contextlib.suppress(OSError):
                        self.socket.shutdown(socket.SHUT_RDWR)
                return
            before = self.received


def _open(url: str, token: str | None, watch: _Watch) -> Any:
    """Without urllib's other handlers: no file, ftp or data address is ever opened."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        _watched(urllib.request.HTTPHandler, watch),
        _watched(urllib.request.HTTPSHandler, watch),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "trap2"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return opener.open(request, timeout=TIMEOUT_SECONDS)


def _watched(handler: Any, watch: _Watch) -> Any:
    """One of urllib's handlers, whose connections the watch can end."""

    class Watched(handler):
        def do_open(self, http_class: Any, request: Any, **options: Any) -> Any:
            class Connection(http_class):
                def connect(self) -> None:
                    super().connect()
                    watch.socket = self.sock

            return super().do_open(Connection, request, **options)

    return Watched()


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise DownloadError(
                f"{req.full_url}: redirects to {shown(newurl)}; only https is followed, and http "
                "from http"
            )
        fp.close()  # else urllib reads its body, however long
        return super().redirect_request(req, fp, code, msg, headers, newurl)
