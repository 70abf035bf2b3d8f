"""Servers and files that lie: bodies without end, web pages, redirections, pipes, full disks."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.hf_api import BlobLfsInfo, DatasetInfo, RepoSibling
from trap2.data import fetching
from trap2.data.catalogue import Dataset, RemoteFile
from trap2.data.sources import ChecksumError, DownloadError, download
from trap2.runtime import files

Handler = http.server.BaseHTTPRequestHandler
LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>" + b"x" * 500


def silent(_: str) -> None:
    """Swallow a progress line."""


@contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[str]:
    """A server on this machine that answers every request by ``answer``."""

    class Answering(Handler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:  # whoever asked has heard enough
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def head(handler: Handler, status: int = 200, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def one_file(catalogue: dict[str, Dataset], task: str, name: str, **known: object) -> Dataset:
    """A dataset of one file, of which nothing but this is known."""
    source = catalogue[task].source()
    (file,) = [file for file in source.files if file.name == name]
    blank = replace(file, **{"checksum": "", "size": None, **known})
    return replace(catalogue[task], sources={"original": replace(source, files=(blank,))})


def endless(sent: list[int]) -> Callable[[Handler], None]:
    """A body without length and without end."""

    def answer(handler: Handler) -> None:
        head(handler)
        for _ in range(4096):
            handler.wfile.write(b"\x1f\x8b" + bytes(2**16))
            sent.append(2**16)

    return answer


def test_a_body_without_end_is_received_up_to_its_expected_size(
    catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    row = one_file(catalogue, "dtd", "dtd-r1.0.1.tar.gz", size=10_000)
    sent: list[int] = []
    with (
        serving(endless(sent)) as url,
        pytest.raises(ChecksumError, match=r"dtd-r1\.0\.1\.tar\.gz.*more than 10000 bytes, expe"),
    ):
        download(row, tmp_path, mirror=url, log=silent)
    assert sum(sent) < 2**26
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_body_without_end_of_unknown_size_is_received_up_to_a_bound(
    catalogue: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SIZE_LIMIT", 10_000)
    row = one_file(catalogue, "dtd", "dtd-r1.0.1.tar.gz")
    with (
        serving(endless([])) as url,
        pytest.raises(DownloadError, match="more than 10000 bytes; larger files need their size"),
    ):
        download(row, tmp_path, mirror=url, log=silent)


def test_an_announced_size_that_is_not_the_expected_one_is_not_received(
    catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    row = one_file(catalogue, "dtd", "dtd-r1.0.1.tar.gz", size=100)
    with (
        serving(lambda handler: head(handler, Content_Length=10**12)) as url,
        pytest.raises(ChecksumError, match="announces 1000000000000 bytes, expected 100"),
    ):
        download(row, tmp_path, mirror=url, log=silent)


@pytest.mark.parametrize("length", ["-5", "many", "1" * 400])
def test_a_length_that_is_no_number_does_not_count(
    length: str, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    row = one_file(catalogue, "resisc45", "resisc45-test.txt")

    def answer(handler: Handler) -> None:
        head(handler, Content_Length=length)
        handler.wfile.write(b"airplane_001.jpg\n")

    with serving(answer) as url:
        download(row, tmp_path, mirror=url, log=silent)
    assert (tmp_path / "content" / "resisc45-test.txt").read_bytes() == b"airplane_001.jpg\n"


KINDS = [
    ("dtd", "dtd-r1.0.1.tar.gz"),
    ("eurosat", "EuroSAT.zip"),
    ("mnist", "t10k-labels-idx1-ubyte.gz"),
    ("svhn", "test_32x32.mat"),
    ("resisc45", "resisc45-test.txt"),
    ("cars", "test-00000-of-00002.parquet"),
]


@pytest.mark.parametrize(("task", "name"), KINDS)
@pytest.mark.parametrize("body", [LOGIN, b"  \xef\xbb\xbf"[2:] + LOGIN, b"", b'{"error": "gone"}'])
def test_what_is_not_of_the_expected_kind_is_not_recorded(
    body: bytes, task: str, name: str, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    """A login page would bind the next download, which would refuse the right file."""
    if name.endswith(".txt") and body.startswith(b"{"):
        pytest.skip("a list may begin so")

    def answer(handler: Handler) -> None:
        head(handler, Content_Length=len(body))
        handler.wfile.write(body)

    row = one_file(catalogue, task, name)
    with serving(answer) as url, pytest.raises(ChecksumError, match=name) as caught:
        download(row, tmp_path, mirror=url, log=silent)
    said = "web page" if body.endswith(b"x") else "is empty" if not body else "does not begin as"
    assert said in str(caught.value)
    assert not (tmp_path / "checksums.json").exists()
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize(("task", "name"), [kind for kind in KINDS if kind[0] != "resisc45"][:3])
def test_a_short_body_is_not_recorded(
    task: str,
    name: str,
    catalogue: dict[str, Dataset],
    miniatures: Path,
    mirror: str,
    tmp_path: Path,
) -> None:
    """Without a length nobody says that it is short; the right file is taken afterwards."""
    whole = (miniatures / task / name).read_bytes()

    def answer(handler: Handler) -> None:
        head(handler)
        handler.wfile.write(whole[: len(whole) * 2 // 3])

    row = one_file(catalogue, task, name)
    with serving(answer) as url, pytest.raises(files.FileError, match=name):
        download(row, tmp_path, mirror=url, log=silent)
    assert not (tmp_path / "checksums.json").exists()
    assert download(row, tmp_path, mirror=mirror, log=silent)["files"][name]["size"] == len(whole)


def test_shards_that_were_not_all_fetched_are_listed_again(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    """A list of those recorded would be taken for the list of all."""
    shards = tuple(
        RemoteFile(f"{part}-*.parquet", f"hub://tanganke/stanford_cars/data/{part}-*.parquet")
        for part in ("train", "test")
    )
    row = replace(
        catalogue["cars"],
        sources={"hub": replace(catalogue["cars"].source("hub"), files=shards)},
    )
    folder = tmp_path / "archives"
    folder.mkdir()
    shard = "train-00000-of-00002.parquet"
    (folder / shard).write_bytes((miniatures / "cars" / shard).read_bytes())
    with pytest.raises(DownloadError, match="no file matches 'test-"):
        download(row, tmp_path / "raw", archives=folder, log=silent)
    assert len(download(row, tmp_path / "raw", archives=miniatures, log=silent)["files"]) == 4


def test_what_the_hub_says_of_a_pinned_revision_is_expected(
    catalogue: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue has no checksum of the Cars shards; the repository has one."""
    whole = b"PAR1" + bytes(100) + b"PAR1"
    lfs = BlobLfsInfo(size=len(whole), sha256="0" * 64, pointer_size=1)

    def listed(self: object, *arguments: object, **options: object) -> DatasetInfo:
        assert options == {"revision": "abc", "files_metadata": True}
        found = DatasetInfo(id="o/n")
        found.siblings = [RepoSibling("data/a-0.parquet", lfs=lfs)]
        return found

    def answer(handler: Handler) -> None:
        asked.append((handler.path, handler.headers["Authorization"]))
        head(handler, Content_Length=len(whole))
        handler.wfile.write(whole)

    asked: list[tuple[str, str]] = []
    shards = (RemoteFile("a-*.parquet", "hub://o/n/data/a-*.parquet"),)
    source = replace(catalogue["cars"].source("hub"), revision="abc", files=shards)
    row = replace(catalogue["cars"], sources={"hub": source})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", listed)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "mine")
    with serving(answer) as url:
        monkeypatch.setattr(
            huggingface_hub, "hf_hub_url", lambda *_, **options: f"{url}/{options['revision']}"
        )
        with pytest.raises(ChecksumError, match=f"sha256 .*expected {'0' * 64}"):
            download(row, tmp_path, log=silent)
    assert asked == [("/abc", "Bearer mine")] * 2


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "gopher:x"]
)
def test_a_redirection_to_another_scheme_is_refused(
    target: str, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    row = one_file(catalogue, "resisc45", "resisc45-test.txt")
    with (
        serving(lambda handler: head(handler, 302, Location=target)) as url,
        pytest.raises(DownloadError, match=r"resisc45-test\.txt.*(redirects to|not allowed)"),
    ):
        download(row, tmp_path, mirror=url, log=silent)


def test_a_redirection_from_https_to_http_is_refused() -> None:
    import urllib.request

    request = urllib.request.Request("https://example.org/a.zip")
    with pytest.raises(DownloadError, match=r"redirects to http://example\.org/b; only https"):
        fetching._Redirects().redirect_request(
            request, None, 302, "Found", {}, "http://example.org/b"
        )


def test_a_redirection_in_a_circle_with_an_endless_body_ends(
    catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    def answer(handler: Handler) -> None:
        head(handler, 302, Location=handler.path)
        for _ in range(2**16):
            handler.wfile.write(bytes(2**16))

    row = one_file(catalogue, "resisc45", "resisc45-test.txt")
    began = time.monotonic()
    with serving(answer) as url, pytest.raises(DownloadError, match=r"resisc45-test\.txt"):
        download(row, tmp_path, mirror=url, log=silent)
    assert time.monotonic() - began < 10


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(600):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_body(handler: Handler) -> None:
    head(handler, Content_Length=10_000)
    for _ in range(600):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def stall(handler: Handler) -> None:
    head(handler, Content_Length=10_000)
    handler.wfile.write(b"x" * 50)
    handler.wfile.flush()
    time.sleep(3)


@pytest.mark.parametrize("answer", [drip_headers, drip_body, stall])
def test_a_server_that_stalls_is_left(
    answer: Callable[[Handler], None],
    catalogue: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.5)
    row = one_file(catalogue, "resisc45", "resisc45-test.txt")
    began = time.monotonic()
    with (
        serving(answer) as url,
        pytest.raises(DownloadError, match=r"resisc45-test\.txt.*(stalls after|timed out)"),
    ):
        download(row, tmp_path, mirror=url, log=silent)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [204, 206, 404, 500])
def test_an_answer_of_another_status_is_refused(
    status: int, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    def answer(handler: Handler) -> None:
        head(
            handler, status, Content_Range="bytes 0-9/20", Content_Length=0 if status == 204 else 9
        )
        handler.wfile.write(b"airplane\n")

    row = one_file(catalogue, "resisc45", "resisc45-test.txt")
    with serving(answer) as url, pytest.raises(DownloadError, match=rf"test\.txt.*{status}"):
        download(row, tmp_path, mirror=url, log=silent)


@pytest.mark.parametrize("mirror", ["file:///tmp", "ftp://127.0.0.1", "/srv/mirror", "mirror.org"])
def test_a_mirror_of_another_scheme_is_refused(
    mirror: str, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"mirror is '.*must begin with http.*'archives'"):
        download(catalogue["mnist"], tmp_path, mirror=mirror, log=silent)


@pytest.mark.parametrize("kind", ["archives", "downloads"])
def test_a_pipe_in_the_place_of_a_file_is_refused(
    kind: str, catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    """Opening it would wait for ever."""
    row = one_file(catalogue, "resisc45", "resisc45-test.txt")
    folder = tmp_path / kind
    folder.mkdir()
    os.mkfifo(folder / "resisc45-test.txt")
    with pytest.raises(files.FileError, match=r"resisc45-test\.txt: not a regular file"):
        download(row, tmp_path, archives=folder if kind == "archives" else None, log=silent)
