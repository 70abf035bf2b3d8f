"""Published weights by tag: what a tag says of the model and its images, and where its file lies.

Free of heavy imports for the rows of ``weights.yaml``, which are the paper's backbones; any other
tag is looked up in open_clip, whose import takes seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trap2.models.clip.architectures import configuration, shipped
from trap2.runtime.schema import read_yaml

WEIGHTS = Path(__file__).with_name("weights.yaml")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

INTERPOLATION = "bicubic"
RESIZE_MODE = "shortest"
"""How images are prepared (:mod:`trap2.data.transforms`); one set of arrays serves all models."""

_SUFFIX = "-quickgelu"


@dataclass(frozen=True)
class Tag:
    """Published weights.

    Attributes:
        architecture, name: a model of open_clip and a tag that it lists for it.
        quick_gelu: whether the weights were trained with QuickGELU.
        mean, std: of each channel, in [0, 1]: how images are normalised.
        interpolation, resize_mode: how images are brought to the model's size.
        repository, file: on the hub; empty when the weights lie elsewhere.
        revision: the commit to fetch; empty when none is pinned.
        sha256, size: of the file; empty and None when not known in advance.
    """

    architecture: str
    name: str
    quick_gelu: bool
    repository: str
    file: str
    revision: str = ""
    sha256: str = ""
    size: int | None = None
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: str = INTERPOLATION
    resize_mode: str = RESIZE_MODE

    @property
    def pinned(self) -> bool:
        """Whether the file is known in advance, by commit and content."""
        return bool(self.revision and self.sha256)


@cache
def pinned_tags() -> dict[tuple[str, str], Tag]:
    """The rows of ``weights.yaml`` by architecture and tag."""
    rows = [Tag(name=row.pop("tag"), **row) for row in map(dict, read_yaml(WEIGHTS, WEIGHTS.name))]
    return {(row.architecture, row.name): row for row in rows}


def find_tag(architecture: str, name: str) -> Tag | None:
    """A tag that open_clip lists for a model of its own, or None."""
    name = name.lower().replace("-", "_")  # as open_clip reads it
    if (row := pinned_tags().get((architecture, name))) is not None:
        return row
    found: Mapping[str, Any] = _open_clip().get_pretrained_cfg(architecture, name)
    if not found:
        return None
    hub = str(found.get("hf_hub", ""))
    repository, _, file = hub.rpartition("/")
    # Of a pickle, the safetensors beside it: open_clip's own choice where there is one.
    stem = file.rpartition(".")[0]
    return Tag(
        architecture,
        name,
        quick_gelu=bool(found.get("quick_gelu", False)),
        repository=repository,
        file=f"{stem}.safetensors" if stem else "open_clip_model.safetensors",
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        interpolation=str(found["interpolation"]),
        resize_mode=str(found["resize_mode"]),
    )


def _open_clip() -> Any:
    return importlib.import_module("open_clip")


def tag_problems(architecture: str, name: str) -> Iterator[str]:
    """Why a tag cannot be used with a supported architecture, in sentences; nothing if it can."""
    tag = find_tag(architecture, name)
    if tag is None:
        yield _unlisted(architecture, name)
        return
    built_with = bool(configuration(architecture).get("quick_gelu", False))
    if tag.quick_gelu != built_with:
        other = _counterpart(architecture)
        remedy = f"Use {other}" if other in shipped() else "No model of open_clip fits it"
        yield (
            f"pretrained '{name}' was trained {'with' if tag.quick_gelu else 'without'} QuickGELU, "
            f"and {architecture} is built {'with' if built_with else 'without'} it. {remedy}"
        )
    if (tag.interpolation, tag.resize_mode) != (INTERPOLATION, RESIZE_MODE):
        yield (
            f"pretrained '{name}' of {architecture} takes images resized by '{tag.resize_mode}' "
            f"with '{tag.interpolation}'; they are prepared by '{RESIZE_MODE}' with "
            f"'{INTERPOLATION}' alone. Choose another tag"
        )
    if not tag.repository:
        yield (
            f"pretrained '{name}' of {architecture} is on no hub as safetensors, and pickles are "
            "never read. Convert the file, and give its path"
        )


def _counterpart(architecture: str) -> str:
    """The same model with the other activation."""
    if architecture.endswith(_SUFFIX):
        return architecture.removesuffix(_SUFFIX)
    return architecture + _SUFFIX


def _unlisted(architecture: str, name: str) -> str:
    clip = _open_clip()
    other = _counterpart(architecture)
    if clip.get_pretrained_cfg(other, name):
        activation = "with" if other.endswith(_SUFFIX) else "without"
        return (
            f"pretrained '{name}' was trained {activation} QuickGELU: it is a tag of {other}, not "
            f"of {architecture}. Use {other}"
        )
    tags = ", ".join(clip.list_pretrained_tags_by_model(architecture)) or "none"
    return (
        f"pretrained '{name}' is neither a file nor a tag of '{architecture}'; its tags are {tags}"
    )
