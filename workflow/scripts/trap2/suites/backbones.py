"""Checking a suite's models as far as that takes imports of seconds: once, before any job runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from trap2.models.clip.architectures import ArchitectureError
from trap2.models.clip.tags import tag_problems
from trap2.runtime import code_digest, files
from trap2.runtime.messages import message
from trap2.runtime.schema import ConfigurationError
from trap2.suites.settings import Suite

VERDICTS = Path(".snakemake") / "trap2" / "architectures.json"
"""Digests of the architectures that were seen to be buildable, beside Snakemake's own notes."""


def check_backbones(name: str, suite: Suite, verdicts: Path = VERDICTS) -> None:
    """Check that tags fit their architectures, and build what is written out, without memory.

    Names that open_clip ships are known to be buildable.

    Raises:
        ConfigurationError: a tag is unknown, or says something else than the architecture or than
            what is supported; an architecture cannot be built.
    """
    problems = list(_problems(suite, verdicts))
    if problems:
        raise ConfigurationError(message(f"config/suites/{name}.yaml", problems))


def _problems(suite: Suite, verdicts: Path) -> Iterator[str]:
    for name, backbone in suite.backbones.items():
        architecture, pretrained = backbone.architecture, backbone.pretrained
        if not isinstance(architecture, str):
            if reason := _unbuildable(architecture, verdicts):
                yield f"backbones.{name}.architecture: {reason}"
        elif pretrained and not pretrained.endswith(".safetensors"):
            for problem in tag_problems(architecture, pretrained):
                yield f"backbones.{name}.{problem}"


def _unbuildable(architecture: Mapping[str, object], verdicts: Path) -> str | None:
    digest = _digest(architecture)
    known = _read(verdicts)
    if digest in known:
        return None
    from trap2.models.clip.buildable import check_buildable

    try:
        check_buildable(architecture)
    except ArchitectureError as error:
        return str(error)
    with contextlib.suppress(OSError):  # a read-only folder: it is built again next time
        files.write_json(verdicts, sorted({*known, digest}))
    return None


def _digest(architecture: Mapping[str, object]) -> str:
    """Of the architecture and of all that decides on it."""
    judge = Path(__file__).parents[1] / "models" / "clip" / "buildable.py"
    versions = [version(package) for package in ("open_clip_torch", "timm", "torch")]
    content = [architecture, versions, code_digest.code_digest(judge)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(verdicts: Path) -> list[str]:
    try:
        found = files.read_json(verdicts)
    except (files.FileError, OSError):
        return []
    return found if isinstance(found, list) else []
