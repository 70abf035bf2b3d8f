"""The released bundle: a suite's checkpoints under ``data/``, which DVC tracks.

``data/{suite}/`` mirrors ``results/{suite}/``: the towers W0, the zero-shot heads and the updates
with their records, each adapter with a model card; ``splits/`` has the split indices,
``reference/`` the tables that the checkpoints gave, and ``manifest.json`` the SHA-256 of every
file, the configuration, the versions, the revision of the code and the training metrics.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trap2.runtime import files
from trap2.runtime.provenance import BUNDLE, MANIFEST, manifest_path
from trap2.runtime.settings import plain
from trap2.runtime.versions import versions
from trap2.suites.model_card import model_card
from trap2.suites.settings import Suite

CARD = "README.md"


# What a released update depends on; a suite that says otherwise cannot be fed with it.
BINDING = ("data", "logit_scale")


def released_name(path: str | Path) -> str:
    """Where the bundle keeps a file of ``results/``: its path below that folder."""
    return str(Path(*Path(path).parts[1:]))


def released_file(path: str) -> str:
    """The released counterpart of a file of ``results/{suite}/``.

    Raises:
        FileError: the bundle has no such file.
    """
    name = released_name(path)
    suite = name.split("/", 1)[0]
    if name not in read_manifest(suite)["files"]:
        raise files.FileError(
            f"checkpoints: released, but {BUNDLE}/{suite} has no {name}. Set checkpoints: train "
            "to make it, or ask for a suite, backbone, task and protection that is released "
            f"({manifest_path(suite)})."
        )
    return str(BUNDLE / name)


def holds(path: str) -> bool:
    """Whether the bundle has the released counterpart of a file of ``results/{suite}/``."""
    name = released_name(path)
    return name in read_manifest(name.split("/", 1)[0])["files"]


def release_formats(suite: str) -> set[str]:
    """The release formats (``lora``, ``full``) that a suite's bundle has updates in."""
    records = (Path(name) for name in read_manifest(suite)["files"])
    return {record.parts[2] for record in records if record.name == "update.json"}


def read_manifest(suite: str) -> dict[str, Any]:
    """A suite's manifest.

    Raises:
        FileError: the bundle is not here, has no such suite, or its manifest is damaged.
    """
    path = manifest_path(suite)
    if not path.exists():
        raise files.FileError(
            f"checkpoints: released, but {path} is not here. Run dvc pull, or set checkpoints: "
            "train in config/config.yaml."
        )
    manifest = files.read_json(path)
    if not isinstance(manifest, dict) or not {"files", "configuration"} <= manifest.keys():
        raise files.FileError(
            f"{path}: not the manifest of a bundle. Get it again: dvc checkout --force"
        )
    return manifest


def digest(suite: str) -> str:
    """One digest of all files of a suite's bundle."""
    content = json.dumps(read_manifest(suite)["files"], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def not_applicable(name: str, configured: Suite, seed: int) -> str | None:
    """Why a suite as configured now cannot use its released checkpoints, or ``None``."""
    released, suite = read_manifest(name)["configuration"], plain(configured)
    was = {"seed": released["seed"]} | {key: released["suite"][key] for key in BINDING}
    now = {"seed": seed} | {key: suite[key] for key in BINDING}
    for key in was:
        if was[key] != now[key]:
            return _changed(key, was[key], now[key])
    for task in suite["tasks"]:
        if task not in released["suite"]["tasks"]:
            return _changed("tasks", released["suite"]["tasks"], suite["tasks"])
    for backbone, settings in suite["backbones"].items():
        then = released["suite"]["backbones"].get(backbone, {})
        for key in ("architecture", "resolution"):
            if then.get(key) != settings[key]:
                return _changed(f"backbones.{backbone}.{key}", then.get(key), settings[key])
    return None


def _changed(key: str, was: object, now: object) -> str:
    return (
        f"checkpoints: released, but {key} is {now}, and was {was} when the checkpoints were "
        "made. Set it back, or set checkpoints: train."
    )


def stage(
    suite: str,
    checkpoints: Iterable[str],
    splits: Iterable[str],
    reference: Iterable[str],
    configuration: Mapping[str, object],
) -> list[str]:
    """Copy a suite's checkpoints and what belongs to them into the bundle.

    Args:
        suite: its name; ``data/{suite}/`` is replaced.
        checkpoints: files of ``results/{suite}/``; an ``adapter_config.json`` among them gets a
            model card beside it.
        splits: the ``splits.json`` of the prepared tasks.
        reference: tables of ``results/{suite}/``.
        configuration: ``suite`` (its settings) and ``seed``.

    Returns:
        The files of the bundle, relative to ``data/``.
    """
    staged: dict[str, bytes] = {}
    metrics: dict[str, object] = {}
    for path in checkpoints:
        staged[released_name(path)] = Path(path).read_bytes()
    for name in [name for name in staged if name.endswith("update.json")]:
        record = files.read_json(Path("results") / name)
        metrics[str(Path(name).parent)] = {split: record[split] for split in ("val", "test")}
        if f"{Path(name).parent}/adapter_config.json" in staged:
            staged[f"{Path(name).parent}/{CARD}"] = model_card(record).encode()
    for path in splits:
        task, resolution = Path(path).parts[-3:-1]
        staged[f"{suite}/splits/{task}-{resolution}.json"] = Path(path).read_bytes()
    for path in reference:
        staged[f"{suite}/reference/{Path(path).name}"] = Path(path).read_bytes()
    for old in (BUNDLE / suite).rglob("*"):
        if old.is_file() and str(old.relative_to(BUNDLE)) not in staged:
            old.unlink()
    for name, content in staged.items():
        files.write_bytes(BUNDLE / name, content)
    manifest = {
        "suite": suite,
        "files": {name: files.sha256(BUNDLE / name) for name in sorted(staged)},
        "configuration": configuration,
        "metrics": metrics,
        "versions": versions(),
        "revision": revision(),
    }
    files.write_json(BUNDLE / suite / MANIFEST, manifest)
    return [*staged, f"{suite}/{MANIFEST}"]


def revision() -> str:
    """The revision of the code, ``+changes`` after it if the tree has any; else ``unknown``."""
    try:
        commit, changes = (
            subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("+changes" if changes.strip() else "")
