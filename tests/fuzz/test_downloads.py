"""Servers that lie in every way: the whole file, or one sentence that names it, and soon."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Refused, attempt, generator, numbers
from trap2.data import fetching
from trap2.data.catalogue import Dataset, RemoteFile
from trap2.data.sources import download
from trap2.runtime import files

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler, bytes, random.Random], None]
PAGE = b"<!doctype html><title>Sign in</title>" + b"x" * 300


def say(handler: Handler, status: int = 200, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def whole(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Content_Length=len(body))
    handler.wfile.write(body)


def without_length(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler)
    handler.wfile.write(body)


def chunked(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def redirected(handler: Handler, body: bytes, random_: random.Random) -> None:
    if "again" in handler.path:
        return whole(handler, body, random_)
    return say(handler, random_.choice([301, 302, 303, 307, 308]), Location="/again" + handler.path)


HONEST: list[Answer] = [whole, without_length, chunked, redirected]


def short(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Content_Length=len(body))
    handler.wfile.write(body[: random_.randrange(len(body))])


def short_without_length(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler)
    handler.wfile.write(body[: random_.randrange(len(body))])


def long(handler: Handler, body: bytes, random_: random.Random) -> None:
    body += random_.randbytes(random_.randint(1, 5000))
    random_.choice([whole, without_length, chunked])(handler, body, random_)


def endless(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, **random_.choice([{}, {"Content_Length": 10**15}]))
    while True:
        handler.wfile.write(body + bytes(2**16))


def endless_chunks(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")


def endless_trailers(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
    while True:
        handler.wfile.write(b"X: y\r\n" * 1000)


def bad_chunks(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Transfer_Encoding="chunked")
    size = random_.choice(
        [b"-5", b"zz", b"", b"f" * 300, b"ffffffffffffff", b"5;x=" + b"y" * 70000]
    )
    handler.wfile.write(size + b"\r\n" + body + b"\r\n")


def page(handler: Handler, body: bytes, random_: random.Random) -> None:
    random_.choice([whole, without_length, chunked])(handler, PAGE, random_)


def empty(handler: Handler, body: bytes, random_: random.Random) -> None:
    random_.choice([whole, without_length, chunked])(handler, b"", random_)


def changed(handler: Handler, body: bytes, random_: random.Random) -> None:
    place = random_.randrange(len(body))
    body = body[:place] + bytes([body[place] ^ 255]) + body[place + 1 :]
    random_.choice([whole, without_length, chunked])(handler, body, random_)


def status(handler: Handler, body: bytes, random_: random.Random) -> None:
    """Ranges that nobody asked for, errors, and numbers that no server has."""
    say(
        handler,
        random_.choice([206, 206, 204, 400, 403, 404, 416, 429, 500, 502, 503, 600, 999]),
        Content_Range=f"bytes {random_.randrange(9)}-{len(body)}/{len(body)}",
        Content_Length=len(body),
    )
    handler.wfile.write(body)


def elsewhere(handler: Handler, body: bytes, random_: random.Random) -> None:
    places = [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "data:,x",
        handler.path,
        "http://[",
        "//",
        "",
    ]
    say(
        handler,
        302,
        Location=random_.choice([*places, "x" * 60000, "http://127.0.0.1:9/x", "ß\x7f"]),
    )
    handler.wfile.write(bytes(2**20))


def stalled(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(handler, Content_Length=len(body))
    handler.wfile.write(body[: len(body) // 2])
    time.sleep(1.5)


def dripping(handler: Handler, body: bytes, random_: random.Random) -> None:
    if random_.random() < 0.5:
        say(handler, Content_Length=2**20)
    else:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def no_http(handler: Handler, body: bytes, random_: random.Random) -> None:
    answers = [
        b"",
        b"HTTP/9.9 \r\n",
        b"\xff" * 99,
        b"SSH-2.0\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
    ]
    handler.wfile.write(random_.choice([*answers, b"HTTP/1.1 200 " + b"x" * 2**17, body]))


def odd_lengths(handler: Handler, body: bytes, random_: random.Random) -> None:
    say(
        handler,
        Content_Length=random_.choice(["-1", "x", "1e3", "9" * 5000, "", "0x10", " 5", "5, 5"]),
    )
    handler.wfile.write(body)


def wordy(handler: Handler, body: bytes, random_: random.Random) -> None:
    handler.send_response(random_.choice([404, 500]), "no " * 20000 + "\x1b[2J")
    handler.end_headers()


LIES: list[Answer] = [
    short,
    short_without_length,
    long,
    endless,
    endless_chunks,
    endless_trailers,
    bad_chunks,
    page,
    empty,
    changed,
    status,
    elsewhere,
    no_http,
    odd_lengths,
    wordy,
]
SLOW: list[Answer] = [stalled, dripping]


class Server:
    """Answers each request of a case as the case says."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.body = b""
        self.random = random.Random()
        outer = self

        class Answering(Handler):
            def do_GET(self) -> None:
                answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                if answer is redirected:
                    outer.answers.insert(0, redirected) if "again" not in self.path else None
                with contextlib.suppress(OSError):
                    answer(self, outer.body, outer.random)
                self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


KINDS = [
    ("dtd", "dtd-r1.0.1.tar.gz"),
    ("eurosat", "EuroSAT.zip"),
    ("mnist", "t10k-labels-idx1-ubyte.gz"),
    ("svhn", "test_32x32.mat"),
    ("resisc45", "resisc45-test.txt"),
    ("cars", "test-00000-of-00002.parquet"),
]


@pytest.mark.parametrize("number", numbers(250))
def test_downloads(
    number: int,
    server: Server,
    catalogue: dict[str, Dataset],
    miniatures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.4)
    monkeypatch.setattr(fetching, "SIZE_LIMIT", 2**20)
    random_ = generator("downloads", number)
    task, name = random_.choice(KINDS)
    body = (miniatures / task / name).read_bytes()
    known = random_.choice(["nothing", "size", "checksum", "both"])
    remote = RemoteFile(
        name,
        f"http://127.0.0.1/{name}",
        f"sha256:{hashlib.sha256(body).hexdigest()}" if known in ("checksum", "both") else "",
        len(body) if known in ("size", "both") else None,
        name.endswith((".zip", ".tar.gz")),
    )
    source = replace(catalogue[task].source(), files=(remote,))
    row = replace(catalogue[task], sources={"original": source})
    answers = random_.choices([*HONEST, *LIES * 2, *SLOW], k=2)
    server.answers, server.body, server.random = [*answers, answers[-1]], body, random_
    folder = tmp_path / "raw"
    result = attempt(
        lambda: download(row, folder, mirror=server.url, log=lambda line: None), folder, [name]
    )
    if isinstance(result, Refused):
        assert not any(answer in HONEST for answer in answers), (answers, result)
        assert not (folder / "source.json").exists()
        assert not (folder / "checksums.json").exists()
        assert [path.name for path in (folder / "downloads").iterdir()] in ([], [name])
    else:
        received = (folder / "downloads" / name).read_bytes()
        assert result["files"][name]["sha256"] == files.sha256(folder / "downloads" / name)
        assert received == body or known in ("nothing", "size")
        assert len(received) == len(body) or known == "nothing"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
