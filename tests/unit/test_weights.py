"""Published weights: a pinned commit, checked content, and what is unknown recorded once."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trap2.models.clip import fetching, tags
from trap2.models.clip.build import build_clip
from trap2.models.clip.fetching import WeightsError, fetch
from trap2.models.clip.tags import Tag
from trap2.runtime import files

LIBRARY = Path(__file__).parents[2] / "workflow" / "scripts"
VIT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAG = Tag("ViT-B-32-quickgelu", "openai", True, "somebody/vit", "open_clip_model.safetensors")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A whole CLIP as the hub's repositories hold it, below its commit as the client keeps it."""
    path = tmp_path / "hub" / "snapshots" / COMMIT / TAG.file
    files.write_tensors(path, build_clip(VIT).state_dict())
    return path


@pytest.fixture
def asked(weights: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The revisions that the hub is asked for, and whether again; it answers ``weights``."""
    calls: list[tuple[str, bool]] = []

    def download(tag: Tag, folder: Any, *, again: bool) -> Path:
        calls.append((tag.revision, again))
        return weights

    monkeypatch.setattr(fetching, "_download", download)
    return calls


def pinned(weights: Path) -> Tag:
    digest, size = files.sha256(weights), weights.stat().st_size
    return replace(TAG, revision=COMMIT, sha256=digest, size=size)


def test_a_pinned_tag_is_asked_for_at_its_commit(
    weights: Path, asked: list[tuple[str, bool]], tmp_path: Path
) -> None:
    said: list[str] = []
    received = fetch(pinned(weights), tmp_path, said.append)
    assert asked == [(COMMIT, False)]
    assert said == []
    assert received.record() == {
        "repository": "somebody/vit",
        "file": TAG.file,
        "revision": COMMIT,
        "sha256": files.sha256(weights),
        "size": weights.stat().st_size,
        "pinned": True,
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 1}, r"\d+ bytes, expected 1"),
        ({"sha256": "0" * 64}, r"sha256 [0-9a-f]{64}, expected 0{64}"),
    ],
)
def test_other_content_is_fetched_once_more_and_refused(
    wrong: dict[str, Any],
    message: str,
    weights: Path,
    asked: list[tuple[str, bool]],
    tmp_path: Path,
) -> None:
    with pytest.raises(WeightsError, match=message) as error:
        fetch(replace(pinned(weights), **wrong), tmp_path, lambda _: None)
    assert asked == [(COMMIT, False), (COMMIT, True)]
    assert "somebody/vit" in str(error.value)
    assert not (tmp_path / "checksums.json").exists()


def test_what_is_not_pinned_is_said_recorded_and_binds(
    weights: Path, asked: list[tuple[str, bool]], tmp_path: Path
) -> None:
    said: list[str] = []
    first = fetch(TAG, tmp_path, said.append)
    assert "no commit and checksum are pinned" in said[0]
    assert first.record()["pinned"] is False
    entry = files.read_json(tmp_path / "checksums.json")["ViT-B-32-quickgelu:openai"]
    assert entry == first.record()
    assert entry["revision"] == COMMIT
    fetch(TAG, tmp_path, said.append)
    # The branch may have moved: the second time asks for the commit of the first.
    assert asked == [("", False), (COMMIT, False)]
    torch.manual_seed(1)
    files.write_tensors(weights, build_clip(VIT).state_dict())
    with pytest.raises(WeightsError, match=r"sha256 .* expected"):
        fetch(TAG, tmp_path, said.append)


def test_the_catalogue_pins_what_is_known() -> None:
    rows = tags.pinned_tags().values()
    assert {(row.architecture, row.name) for row in rows} == {
        ("ViT-B-32-quickgelu", "openai"),
        ("ViT-L-14-quickgelu", "openai"),
        ("convnext_base_w", "laion2b_s13b_b82k_augreg"),
    }
    assert [row.architecture for row in rows if not row.pinned] == ["convnext_base_w"]
    for row in rows:
        assert row.file.endswith(".safetensors")
        assert len(row.sha256) in (0, 64)
        assert len(row.revision) in (0, 40)


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


SCRIPT = """
import json, sys
from trap2.models.clip.build import build_clip
from trap2.models.clip.fetching import fetch
from trap2.models.clip.tags import Tag
tag, architecture, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
received = fetch(Tag(**tag), folder, lambda line: None)
clip = build_clip(architecture, received.path)
print(json.dumps([received.record(), float(clip.visual.proj.abs().sum())]))
"""


def test_weights_come_through_the_hub_client(weights: Path, tmp_path: Path) -> None:
    """A small server that speaks the hub's protocol serves a small CLIP in the real format."""
    content = weights.read_bytes()
    requests: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        requests.append(handler.path)
        handler.send_response(200)
        for name, value in {
            "ETag": f'"{files.sha256(weights)}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content)),
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)

    row = pinned(weights)
    tag = {
        key: getattr(row, key)
        for key in (
            "architecture",
            "name",
            "quick_gelu",
            "repository",
            "file",
            "revision",
            "sha256",
        )
    }
    with serving(answer) as url:
        environment = {
            **os.environ,
            "PYTHONPATH": str(LIBRARY),
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        arguments = [json.dumps(tag), json.dumps(VIT), str(tmp_path / "models")]
        for expected in (True, False):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            record, total = json.loads(done.stdout)
            assert record["revision"] == COMMIT
            assert record["sha256"] == files.sha256(weights)
            own = files.read_tensors(weights)["visual.proj"].abs().sum()
            assert total == pytest.approx(float(own))
            # A commit that is there already is not asked for again.
            assert bool(requests) is expected
            assert all(f"/somebody/vit/resolve/{COMMIT}/" in path for path in requests)
            requests.clear()
