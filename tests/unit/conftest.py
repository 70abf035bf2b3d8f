"""The miniature datasets, laid out as their readers find them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trap2.data.catalogue import Dataset
from trap2.data.sources import download


@pytest.fixture(scope="session")
def laid_out(
    tmp_path_factory: pytest.TempPathFactory, miniatures: Path, catalogue: dict[str, Dataset]
) -> Callable[[str, str | None], Path]:
    """The content folder of a dataset; do not change it."""
    base = tmp_path_factory.mktemp("raw")

    def lay_out(task: str, source: str | None = None) -> Path:
        raw = base / f"{task}-{source}"
        if not raw.exists():
            download(catalogue[task], raw, source=source, archives=miniatures, log=lambda _: None)
        return raw / "content"

    return lay_out


@pytest.fixture
def copied(laid_out: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A content folder to damage."""

    def copy(task: str, source: str | None = None) -> Path:
        return Path(shutil.copytree(laid_out(task, source), tmp_path / "content"))

    return copy
