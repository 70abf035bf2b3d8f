"""CLIP models through open_clip, real and tiny, and their vision towers (paper, Appendix D.2)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import open_clip

from trap2.models.clip.architectures import Architecture, ArchitectureError, configuration
from trap2.models.clip.fetching import Log, fetch
from trap2.models.clip.normalisation import Normalisation, convert_on_entry, from_metadata
from trap2.models.clip.tags import INTERPOLATION, RESIZE_MODE, find_tag, tag_problems
from trap2.runtime import files


def build_clip(
    architecture: str | Mapping[str, object],
    weights: str | Path | None = None,
    normalisation: Normalisation | None = None,
) -> open_clip.CLIP:
    """Build an open_clip CLIP in float32 on the CPU, without any network.

    Its vision tower takes images normalised with CLIP's constants, whatever its own are.

    Args:
        architecture: the name of an open_clip model (``ViT-B-32-quickgelu``), or open_clip's
            configuration ``{embed_dim, vision_cfg, text_cfg}``.  A ``vision_cfg`` with
            ``timm_model_name`` may also hold ``timm_model_args``, arguments of that timm model
            (``depths``, ``dims``, ``ls_init_value`` …), which is how a tiny ConvNeXt is made.
        weights: a safetensors file of the whole model; random weights from torch's global
            generator without it.
        normalisation: the mean and deviation that the weights were trained with; by default those
            that the file names in its metadata, and CLIP's if it names none.

    Raises:
        ArchitectureError: the architecture is unknown, not supported or cannot be built.
        FileError: the weights cannot be read, or belong to another architecture.
    """
    clip = _build_configured(configuration(architecture))
    if weights is not None:
        load_weights(clip, weights)
        if normalisation is None:
            normalisation = from_metadata(files.read_metadata(weights))
    convert_on_entry(clip.visual, normalisation or Normalisation())
    return clip.eval()


def _build_configured(config: Architecture) -> open_clip.CLIP:
    model_args = config["vision_cfg"].pop("timm_model_args", None)
    try:
        if model_args is None:
            return open_clip.CLIP(**config)
        # timm reads a model's arguments from a folder's config.json; nothing else passes through
        # open_clip to it.
        with tempfile.TemporaryDirectory() as folder:
            model = {
                "architecture": config["vision_cfg"]["timm_model_name"],
                "model_args": model_args,
                "pretrained_cfg": {},
            }
            (Path(folder) / "config.json").write_text(json.dumps(model), encoding="utf-8")
            config["vision_cfg"]["timm_model_name"] = f"local-dir:{folder}"
            return open_clip.CLIP(**config)
    except Exception as error:  # whatever open_clip, timm and torch raise on what does not fit
        kind = type(error).__name__
        raise ArchitectureError(
            f"the architecture is not a valid open_clip model ({kind}: {error})"
        ) from error


def load_weights(clip: open_clip.CLIP, path: str | Path) -> None:
    """Load a whole model's safetensors into ``clip``, in place.

    Raises:
        FileError: the file cannot be read, lacks a tensor of the model, has one that the model
            has not, or one of another shape.
    """
    tensors = files.read_tensors(path)
    own = clip.state_dict()
    if "logit_scale" in tensors:
        # A scalar in some published files, a vector of one in others.
        tensors["logit_scale"] = tensors["logit_scale"].reshape(own["logit_scale"].shape)
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} in the place of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    problems = [
        f"{what}: {_few(names)}"
        for what, names in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("other shapes", reshaped),
        )
        if names
    ]
    if problems:
        raise files.FileError(
            f"{path}: not the weights of this architecture ({'; '.join(problems)}). Give the "
            "file that was made for it, or the architecture that the file was made for."
        )
    clip.load_state_dict(tensors)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class ImagesRecord(TypedDict):
    """The images that a base takes: their edge in pixels, how they are resized and normalised."""

    size: int
    resize_mode: str
    interpolation: str
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Pretrained:
    """A published CLIP with what its weights say of themselves and of their images.

    Attributes:
        clip: the model.
        normalisation: mean and deviation of its images.
        weights: where the weights came from, and their SHA-256.
    """

    clip: open_clip.CLIP
    normalisation: Normalisation
    weights: dict[str, str | int | bool]

    def images(self, resolution: int) -> ImagesRecord:
        """What the model takes, for the base's record."""
        return images_record(resolution, self.normalisation)


def images_record(resolution: int, normalisation: Normalisation) -> ImagesRecord:
    """The images that a base takes: their size, how they are resized and normalised."""
    return {
        "size": resolution,
        "resize_mode": RESIZE_MODE,
        "interpolation": INTERPOLATION,
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
    }


def load_pretrained(
    architecture: str | Mapping[str, object],
    pretrained: str,
    cache_dir: str | Path,
    normalisation: Normalisation | None = None,
    log: Log = print,
) -> Pretrained:
    """A published CLIP: the weights of one of open_clip's tags, or of a local file.

    A tag is downloaded from the hub into ``cache_dir`` when it is not there yet, at the commit and
    with the checksum of ``weights.yaml`` where that has them.

    Args:
        architecture: as in :func:`build_clip`; only a named one has tags.
        pretrained: a tag that open_clip lists for it (``openai``), or a safetensors file.
        cache_dir: where downloads are kept.
        normalisation: of a local file's images, which says nothing of them; a tag has its own.
        log: called with a line where something is not known in advance.

    Raises:
        ArchitectureError: the architecture is not supported.
        FileError: ``pretrained`` is neither a file nor a tag that can be used; the weights cannot
            be had, are not safetensors, or belong to another architecture.
    """
    path = Path(pretrained)
    if path.is_file() or not isinstance(architecture, str):
        if path.suffix != ".safetensors":
            raise files.FileError(
                f"{path}: only safetensors are read, never a pickle. Convert the file, or name a "
                "tag, whose safetensors are fetched."
            )
        found = normalisation or from_metadata(files.read_metadata(path))
        source: dict[str, str | int | bool] = {"file": str(path), "sha256": files.sha256(path)}
        if normalisation is None:
            log(f"{path}: a file does not say how its images are normalised; taken as {found}")
        return Pretrained(build_clip(architecture, path, found), found, source)
    problems = list(tag_problems(architecture, pretrained))
    tag = None if problems else find_tag(architecture, pretrained)
    if tag is None:
        raise files.FileError("; ".join(problems))
    received = fetch(tag, cache_dir, log)
    found = Normalisation(tag.mean, tag.std)
    clip = build_clip(architecture, received.path, found)
    return Pretrained(clip, found, received.record())
