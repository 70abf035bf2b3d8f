"""What a disk or a folder refuses while a dataset is fetched: one sentence, and nothing is kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from trap2.data.catalogue import Dataset
from trap2.data.sources import download
from trap2.runtime import files


def silent(_: str) -> None:
    """Swallow a progress line."""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_downloading_is_one_sentence(
    number: int,
    catalogue: dict[str, Dataset],
    mirror: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.FileError, match=r"the disk is full\. Make room .*'resources'"):
        download(catalogue["mnist"], tmp_path, mirror=mirror, log=silent)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_file_larger_than_the_disk_is_not_begun(
    catalogue: dict[str, Dataset], tmp_path: Path
) -> None:
    source = catalogue["mnist"].source()
    huge = (replace(source.files[0], size=2**60),)
    row = replace(catalogue["mnist"], sources={"original": replace(source, files=huge)})
    with pytest.raises(files.FileError, match=r"ubyte\.gz: needs 1152921504606846976 bytes; the"):
        download(row, tmp_path, mirror="http://127.0.0.1:9", log=silent)


def test_a_raw_folder_that_cannot_be_made_is_one_sentence(catalogue: dict[str, Dataset]) -> None:
    with pytest.raises(files.FileError, match="/proc/trap2"):
        download(catalogue["mnist"], "/proc/trap2/mnist", mirror="http://127.0.0.1:9", log=silent)


SCRIPT = """
import sys
from trap2.data.catalogue import load_catalogue
from trap2.data.sources import download
download(load_catalogue(sys.argv[1])["mnist"], sys.argv[2], mirror=sys.argv[3], log=print)
"""


def test_a_download_needs_neither_home_nor_tmp(
    miniatures: Path, mirror: str, tmp_path: Path
) -> None:
    """On a cluster's nodes HOME may not be writable and /tmp may be full."""
    nowhere = {
        "HOME": "/proc/nowhere",
        "TMPDIR": "/proc/nowhere",
        "XDG_CACHE_HOME": "/proc/nowhere",
    }
    library = Path(__file__).parents[2] / "workflow" / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, miniatures / "catalogue.yaml", tmp_path / "raw", mirror],
        env={**os.environ, **nowhere, "PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "raw" / "source.json").exists()
