"""Fixtures that tests of several folders share."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trap2.data.catalogue import Dataset, load_catalogue

# Tiny models are slower on several threads; jobs of the workflow set a number of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MAKER = Path(__file__).parent / "fixtures" / "make_datasets.py"


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every dataset in miniature, as its source offers it; do not change it."""
    spec = importlib.util.spec_from_file_location("make_datasets", MAKER)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    folder = tmp_path_factory.mktemp("miniatures")
    maker.make(folder)
    return folder


@pytest.fixture(scope="session")
def catalogue(miniatures: Path) -> dict[str, Dataset]:
    """The rows of the miniatures."""
    return load_catalogue(miniatures / "catalogue.yaml")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def mirror(miniatures: Path) -> Iterator[str]:
    """The address of a server of the miniatures on this machine."""
    handler = functools.partial(_Quiet, directory=str(miniatures))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
