"""Downloads: whole or not at all, checked, unpacked without trust."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from trap2.data.catalogue import Dataset, RemoteFile
from trap2.data.sources import ChecksumError, DownloadError, download
from trap2.data.unpacking import UnsafeArchiveError
from trap2.runtime import files

LIBRARY = Path(__file__).parents[2] / "workflow" / "scripts"
TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "aircraft", "svhn", "sun397"]


def silent(_: str) -> None:
    """Swallow a progress line."""


@contextmanager
def serving(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on this machine that answers every request by ``answer``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, content: bytes, announced: int) -> None:
    """Send ``content``, after announcing so many bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(announced))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def lists(catalogue: dict[str, Dataset]) -> Dataset:
    """RESISC45 with nothing but its list of test images, so that one file is at stake."""
    row = catalogue["resisc45"]
    source = row.source()
    wanted = tuple(file for file in source.files if file.name == "resisc45-test.txt")
    return replace(row, sources={"original": replace(source, files=wanted)})


@pytest.fixture
def content(miniatures: Path) -> bytes:
    return (miniatures / "resisc45" / "resisc45-test.txt").read_bytes()


def unknown_checksum(row: Dataset) -> Dataset:
    """The row as if nothing were known of its files in advance."""
    source = row.source()
    blank = tuple(replace(file, checksum="", size=None) for file in source.files)
    return replace(row, sources={source.name: replace(source, files=blank)})


@pytest.mark.parametrize("task", TASKS)
def test_every_dataset_downloads_over_http(
    task: str, catalogue: dict[str, Dataset], mirror: str, miniatures: Path, tmp_path: Path
) -> None:
    row = catalogue[task]
    for name in row.sources:
        raw = tmp_path / name
        facts = download(row, raw, source=name, mirror=mirror, log=silent)
        assert facts == files.read_json(raw / "source.json")
        assert set(facts["files"]) == {file.name for file in row.sources[name].files}
        for file, entry in facts["files"].items():
            assert entry["sha256"] == files.sha256(miniatures / task / file)
        assert any((raw / "content").iterdir())
        left = {path.name for path in raw.iterdir()}
        assert left == {"downloads", "content", "checksums.json", "source.json"}


def test_a_second_download_fetches_and_unpacks_nothing(
    catalogue: dict[str, Dataset], mirror: str, tmp_path: Path
) -> None:
    row = catalogue["dtd"]
    download(row, tmp_path, mirror=mirror, log=silent)
    before = (tmp_path / "content").stat()
    download(row, tmp_path, mirror="http://127.0.0.1:9", log=silent)
    assert (tmp_path / "content").stat().st_ino == before.st_ino


def test_a_truncated_answer_is_refused_and_leaves_nothing(
    lists: Dataset, content: bytes, tmp_path: Path
) -> None:
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, content[:50], len(content))

    with (
        serving(answer) as url,
        pytest.raises(DownloadError, match=r"resisc45-test.txt.*broke off after 50 of \d+ bytes"),
    ):
        download(lists, tmp_path, mirror=url, log=silent)
    assert asked == ["/resisc45/resisc45-test.txt"] * 2
    assert list((tmp_path / "downloads").iterdir()) == []
    assert not (tmp_path / "source.json").exists()


@pytest.mark.parametrize("known", [True, False])
def test_an_error_of_the_server_is_named(known: bool, lists: Dataset, tmp_path: Path) -> None:
    row = lists if known else unknown_checksum(lists)
    with (
        serving(lambda handler: handler.send_error(503)) as url,
        pytest.raises(DownloadError, match=r"resisc45-test.txt.*attempt 2: .*503.*archives"),
    ):
        download(row, tmp_path, mirror=url, log=silent)


def test_changed_content_is_refused(lists: Dataset, content: bytes, tmp_path: Path) -> None:
    changed = content.replace(b"a", b"b")
    with (
        serving(lambda handler: reply(handler, changed, len(changed))) as url,
        pytest.raises(ChecksumError, match=r"resisc45-test.txt.*md5 [0-9a-f]+, expected"),
    ):
        download(lists, tmp_path, mirror=url, log=silent)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_wrong_size_is_refused(
    catalogue: dict[str, Dataset], mirror: str, tmp_path: Path
) -> None:
    row = catalogue["mnist"]
    source = row.source()
    wrong = (replace(source.files[0], size=source.files[0].size + 1), *source.files[1:])
    row = replace(row, sources={"original": replace(source, files=wrong)})
    with pytest.raises(ChecksumError, match=r"train-images.*\d+ bytes, expected \d+"):
        download(row, tmp_path, mirror=mirror, log=silent)


def test_a_bad_answer_is_asked_for_again(lists: Dataset, content: bytes, tmp_path: Path) -> None:
    answers = [content[:10], content]
    said: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        served = answers.pop(0)
        reply(handler, served, len(served))

    with serving(answer) as url:
        download(lists, tmp_path, mirror=url, log=said.append)
    assert (tmp_path / "content" / "resisc45-test.txt").read_bytes() == content
    assert any("attempt 1" in line and "md5" in line for line in said)


def test_a_damaged_download_is_fetched_again(
    catalogue: dict[str, Dataset], mirror: str, miniatures: Path, tmp_path: Path
) -> None:
    row, name = catalogue["eurosat"], "EuroSAT.zip"
    download(row, tmp_path, mirror=mirror, log=silent)
    whole = (miniatures / "eurosat" / name).read_bytes()
    (tmp_path / "downloads" / name).write_bytes(whole[: len(whole) // 2])
    said: list[str] = []
    download(row, tmp_path, mirror=mirror, log=said.append)
    assert (tmp_path / "downloads" / name).read_bytes() == whole
    assert any(name in line and "fetching it again" in line for line in said)


def test_a_half_written_file_is_never_taken_for_whole(
    lists: Dataset, content: bytes, mirror: str, tmp_path: Path
) -> None:
    """What a killed job leaves behind has another name."""
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ".resisc45-test.txt.abc.part").write_bytes(content[:20])
    download(lists, tmp_path, mirror=mirror, log=silent)
    assert (tmp_path / "content" / "resisc45-test.txt").read_bytes() == content


def test_an_unknown_checksum_is_recorded_and_then_binds(
    lists: Dataset, content: bytes, mirror: str, tmp_path: Path
) -> None:
    row = unknown_checksum(lists)
    download(row, tmp_path, mirror=mirror, log=silent)
    recorded = files.read_json(tmp_path / "checksums.json")["resisc45-test.txt"]
    assert recorded["size"] == len(content)
    (tmp_path / "downloads" / "resisc45-test.txt").unlink()
    changed = content + b"another_001.jpg\n"
    with (
        serving(lambda handler: reply(handler, changed, len(changed))) as url,
        pytest.raises(ChecksumError, match="when it was first received"),
    ):
        download(row, tmp_path, mirror=url, log=silent)


def test_archives_already_downloaded_need_no_network(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    facts = download(
        catalogue["svhn"],
        tmp_path,
        mirror="http://127.0.0.1:9",
        archives=miniatures,
        log=silent,
    )
    assert set(facts["files"]) == {"train_32x32.mat", "test_32x32.mat"}
    flat = download(catalogue["svhn"], tmp_path / "flat", archives=miniatures / "svhn", log=silent)
    assert flat == facts


def test_a_missing_archive_is_named(catalogue: dict[str, Dataset], tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    with pytest.raises(
        DownloadError, match=r"SUN397.tar.gz' \(http.*Partitions.zip' .* are missing \(looked in"
    ):
        download(catalogue["sun397"], tmp_path, archives=tmp_path / "archives", log=silent)


def test_a_corrupted_archive_is_refused_and_left_alone(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    broken = bytearray((miniatures / "dtd" / "dtd-r1.0.1.tar.gz").read_bytes())
    broken[1000] ^= 1
    archive = tmp_path / "archives" / "dtd-r1.0.1.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(broken)
    with pytest.raises(ChecksumError, match=r"dtd-r1.0.1.tar.gz: md5 .* expected"):
        download(catalogue["dtd"], tmp_path / "raw", archives=archive.parent, log=silent)
    assert archive.read_bytes() == broken
    assert not (tmp_path / "raw" / "content").exists()


def test_a_corrupted_archive_of_unknown_checksum_is_refused(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    whole = (miniatures / "dtd" / "dtd-r1.0.1.tar.gz").read_bytes()
    (tmp_path / "dtd-r1.0.1.tar.gz").write_bytes(whole[: len(whole) // 2])
    row = unknown_checksum(catalogue["dtd"])
    with pytest.raises(files.FileError, match=r"dtd-r1\.0\.1\.tar\.gz: damaged or truncated"):
        download(row, tmp_path / "raw", archives=tmp_path, log=silent)
    assert not (tmp_path / "raw" / "content").exists()
    assert [path.name for path in (tmp_path / "raw").glob(".content*")] == []


def test_shards_are_found_among_archives(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    facts = download(with_pattern(catalogue["cars"]), tmp_path, archives=miniatures, log=silent)
    assert sorted(facts["files"]) == [
        "test-00000-of-00002.parquet",
        "test-00001-of-00002.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]


def test_a_mirror_cannot_list_shards(
    catalogue: dict[str, Dataset], mirror: str, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="a mirror cannot list"):
        download(with_pattern(catalogue["cars"]), tmp_path, mirror=mirror, log=silent)


def with_pattern(row: Dataset) -> Dataset:
    """Cars from shards whose names only the repository knows, as in the real catalogue."""
    shards = tuple(
        RemoteFile(f"{part}-*.parquet", f"hub://tanganke/stanford_cars/data/{part}-*.parquet")
        for part in ("train", "test")
    )
    return replace(row, sources={"hub": replace(row.source("hub"), files=shards)})


HUB_SCRIPT = """
import json, sys
from dataclasses import replace
from trap2.data.catalogue import RemoteFile, load_catalogue
from trap2.data.sources import download
row = load_catalogue(sys.argv[1])["cars"]
shards = tuple(
    RemoteFile(f"{part}-*.parquet", f"hub://tanganke/stanford_cars/data/{part}-*.parquet")
    for part in ("train", "test")
)
row = replace(row, sources={"hub": replace(row.source("hub"), files=shards)})
print(json.dumps(download(row, sys.argv[2], log=lambda line: None)))
"""


def test_hub_files_come_through_the_hub_client(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    """A small server that speaks the hub's protocol lists the shards and serves them."""
    revision = catalogue["cars"].source("hub").revision
    shards = sorted(path.name for path in (miniatures / "cars").glob("*.parquet"))
    listing = {
        "id": "tanganke/stanford_cars",
        "sha": revision,
        "siblings": [{"rfilename": name} for name in ["README.md", *(f"data/{s}" for s in shards)]],
    }
    asked: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        body = json.dumps(listing).encode()
        headers = {"Content-Type": "application/json"}
        if "/resolve/" in handler.path:
            body = (miniatures / "cars" / handler.path.rpartition("/")[2]).read_bytes()
            headers = {"ETag": f'"{len(body)}"', "X-Repo-Commit": revision}
        handler.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)

    with serving(answer) as url:
        environment = {
            **os.environ,
            "PYTHONPATH": str(LIBRARY),
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        catalogue_path, raw = str(miniatures / "catalogue.yaml"), str(tmp_path / "raw")
        done = subprocess.run(
            [sys.executable, "-c", HUB_SCRIPT, catalogue_path, raw],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["files"]) == shards
    assert any(revision in path for path in asked if "/resolve/" in path)
    for name in shards:
        received = tmp_path / "raw" / "content" / name
        assert received.read_bytes() == (miniatures / "cars" / name).read_bytes()


def test_an_update_that_fails_keeps_nothing_half_done(
    catalogue: dict[str, Dataset], miniatures: Path, tmp_path: Path
) -> None:
    """A folder whose archive was replaced by a broken one has no source.json afterwards."""
    archives = tmp_path / "archives"
    archives.mkdir()
    whole = (miniatures / "dtd" / "dtd-r1.0.1.tar.gz").read_bytes()
    (archives / "dtd-r1.0.1.tar.gz").write_bytes(whole)
    row = catalogue["dtd"]
    download(row, tmp_path / "raw", archives=archives, log=silent)
    with tarfile.open(archives / "dtd-r1.0.1.tar.gz", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    checksum = "sha256:" + files.sha256(archives / "dtd-r1.0.1.tar.gz")
    source = row.source()
    changed = (replace(source.files[0], checksum=checksum, size=None),)
    row = replace(row, sources={"original": replace(source, files=changed)})
    with pytest.raises(UnsafeArchiveError):
        download(row, tmp_path / "raw", archives=archives, log=silent)
    assert not (tmp_path / "raw" / "source.json").exists()
