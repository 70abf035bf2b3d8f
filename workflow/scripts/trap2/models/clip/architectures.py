"""Which CLIPs can be built: a name that open_clip ships, or its settings written out, checked.

A configuration and a base's record come from anywhere, and open_clip and timm follow some names to
the hub or into folders (``hf-hub:``, ``local-dir:``).  So only what stands in the tables below is
let through, and what passes is bounded in size.  Free of heavy imports: the workflow asks in every
job.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from trap2.models.families import FAMILIES, family_of
from trap2.runtime.errors import Trap2Error

VOCABULARY = 49408
"""Tokens of CLIP's byte-pair tokenizer, the one that zero-shot heads use."""

LARGEST = 6e9
"""Parameters that an architecture may have; open_clip's largest ViT has 4.7e9."""

LARGEST_GRID = 2**14
"""Patches that an image may have."""

_TIMM_NAME = re.compile(r"[a-z0-9_]{1,64}")


class ArchitectureError(Trap2Error):
    """An architecture that is not known, not supported, or cannot be built."""


class BackboneParams(TypedDict):
    """A suite's settings of a backbone as jobs on its tower get them."""

    architecture: str | Mapping[str, object]
    recompute: NotRequired[bool]


class Architecture(TypedDict):
    """open_clip's configuration of a CLIP; what the towers' settings may be, :data:`RULES` says."""

    embed_dim: int
    quick_gelu: NotRequired[bool]
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


_Rule = tuple[str, Callable[[Any], bool]]
"""What is allowed, in words, and the test of it."""


def _whole(low: int, high: int) -> _Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return f"a whole number from {low} to {high}", fits


def _number(low: float, high: float) -> _Rule:
    def fits(value: Any) -> bool:
        return (
            isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        )

    return f"a number from {low:g} to {high:g}", fits


def _or_null(rule: _Rule) -> _Rule:
    return f"{rule[0]}, or null", lambda value: value is None or rule[1](value)


def _one_of(*allowed: Any) -> _Rule:
    words = " or ".join(json.dumps(item) for item in allowed)
    return words, lambda value: any(value is item or value == item for item in allowed)


_FLAG: _Rule = ("true or false", lambda value: isinstance(value, bool))
_WIDTH, _LAYERS = _whole(1, 8192), _whole(1, 128)
_NUMBER = _number(0, 8192)

RULES: dict[str, dict[str, _Rule]] = {
    "": {
        "embed_dim": _WIDTH,
        "quick_gelu": _FLAG,
        "vision_cfg": ("a mapping", lambda value: isinstance(value, Mapping)),
        "text_cfg": ("a mapping", lambda value: isinstance(value, Mapping)),
    },
    "vision_cfg": {
        "image_size": _whole(8, 2048),
        "patch_size": _whole(1, 2048),
        "width": _WIDTH,
        "layers": _LAYERS,
        "head_width": _WIDTH,
        "mlp_ratio": _number(0.01, 32),
        "ls_init_value": _or_null(_number(0, 10)),
        "pool_type": _one_of("tok", "avg"),
        "no_ln_pre": _FLAG,
        "final_ln_after_pool": _FLAG,
        "timm_model_name": (
            "the name of a model of timm, in small letters, digits and _",
            lambda value: isinstance(value, str) and _TIMM_NAME.fullmatch(value) is not None,
        ),
        "timm_model_pretrained": ("false; nothing is fetched", lambda value: value is False),
        "timm_pool": _one_of("", "avg"),
        "timm_proj": _one_of("linear", "mlp"),
        "timm_proj_bias": _FLAG,
        "timm_drop": _number(0, 0.99),
        "timm_drop_path": _or_null(_number(0, 0.99)),
        "timm_model_args": ("a mapping", lambda value: isinstance(value, Mapping)),
    },
    "text_cfg": {
        "context_length": _whole(3, 1024),
        "vocab_size": (
            f"{VOCABULARY}, the tokens of CLIP's tokenizer; no other one is supported",
            lambda value: value == VOCABULARY,
        ),
        "width": _WIDTH,
        "heads": _whole(1, 1024),
        "layers": _LAYERS,
        "mlp_ratio": _number(0.01, 32),
    },
}
"""The settings of an architecture by where they stand, each with what is allowed."""


@cache
def shipped() -> dict[str, Path]:
    """open_clip's model configurations by name, found without its slow import."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "model_configs"
    return {path.stem: path for path in folder.glob("*.json")}


def configuration(architecture: str | Mapping[str, object]) -> Architecture:
    """open_clip's configuration ``{embed_dim, vision_cfg, text_cfg}`` of an architecture.

    Args:
        architecture: the name of an open_clip model, or its configuration, where ``vision_cfg``
            may hold ``timm_model_args`` besides open_clip's own keys.

    Raises:
        ArchitectureError: it is neither, or one that this library does not support.
    """
    if isinstance(architecture, str):
        if architecture not in shipped():
            raise ArchitectureError(
                f"architecture '{architecture[:80]}' is not a model of open_clip; it must be one "
                "of open_clip.list_models() or a mapping {embed_dim, vision_cfg, text_cfg}"
            )
        found = json.loads(shipped()[architecture].read_text("utf-8"))
        _refuse_other_kinds(architecture, found)
    elif isinstance(architecture, Mapping):
        found = _copied(architecture, "vision_cfg", "text_cfg")
        if isinstance(found.get("vision_cfg"), dict):
            found["vision_cfg"] = _copied(found["vision_cfg"], "timm_model_args")
        missing = sorted({"embed_dim", "vision_cfg", "text_cfg"} - found.keys())
        if missing:
            raise ArchitectureError(f"the architecture lacks {missing}; found {_few(found)}")
    else:
        raise ArchitectureError(
            "an architecture is the name of an open_clip model or a mapping {embed_dim, "
            f"vision_cfg, text_cfg}}, not a {type(architecture).__name__}"
        )
    problems = list(_problems(found))
    if problems:
        raise ArchitectureError("; ".join(problems[:4]))
    result: Architecture = found
    return result


def _copied(settings: Mapping[str, object], *nested: str) -> dict[str, Any]:
    """A copy down to the mappings that are known; whatever else is there may be endless."""
    return {
        key: dict(value) if key in nested and isinstance(value, Mapping) else value
        for key, value in settings.items()
    }


def _few(names: Mapping[Any, Any]) -> list[str]:
    return [str(name)[:40] for name in list(names)[:8]]


def _refuse_other_kinds(name: str, found: Mapping[str, Any]) -> None:
    """Say in one sentence why a model of open_clip is none of this library's."""
    text, vision = found["text_cfg"], found["vision_cfg"]
    reason = None
    if tokenizer := text.get("hf_tokenizer_name"):
        reason = f"has a tokenizer of its own ({tokenizer}), and heads are made with CLIP's"
    elif "multimodal_cfg" in found:
        reason = "is a CoCa, which also writes captions"
    elif isinstance(vision.get("layers"), list):
        reason = "is a ResNet, of no family that is known (trap2/models/families.py)"
    elif found.get("custom_text"):
        reason = "has a text tower of another form than CLIP's"
    if reason is not None:
        raise ArchitectureError(f"architecture '{name}' is not supported: it {reason}")


def _problems(found: Architecture) -> Iterator[str]:
    wrong = list(_wrong_settings(found))
    yield from wrong
    if wrong:
        return
    try:
        family_of(found)
    except ValueError as error:
        yield f"vision_cfg: {error}"
        return
    yield from _wrong_arguments(found["vision_cfg"])
    yield from _misfits(found)


def _wrong_arguments(vision: Mapping[str, Any]) -> Iterator[str]:
    """Arguments of timm's model: those that its family names, each a number, a flag or a word."""
    if "timm_model_args" in vision and "timm_model_name" not in vision:
        yield "vision_cfg.timm_model_args is set without timm_model_name. Remove it"
        return
    known = FAMILIES[family_of({"vision_cfg": vision})].settings
    for key, value in vision.get("timm_model_args", {}).items():
        where = f"vision_cfg.timm_model_args.{key}"[:80]
        if key not in known:
            yield f"{where} is not a setting that is known; known are {', '.join(sorted(known))}"
        elif not _plain(value):
            yield (
                f"{where} is {reprlib.repr(value)}; it must be a number up to 8192, true, false, "
                "null, a word, or a list of at most 8 such numbers"
            )


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 8 and all(map(_NUMBER[1], value))
    word = isinstance(value, str) and _TIMM_NAME.fullmatch(value) is not None
    return value is None or isinstance(value, bool) or word or _NUMBER[1](value)


def _wrong_settings(found: Mapping[str, object]) -> Iterator[str]:
    for place, rules in RULES.items():
        settings: Any = found
        for step in filter(None, place.split(".")):
            settings = settings.get(step, {}) if isinstance(settings, Mapping) else {}
        if not isinstance(settings, Mapping):
            continue  # said where it stands
        for key, value in settings.items():
            where = f"{place}.{key}".lstrip(".")[:80]
            if key not in rules:
                yield f"{where} is not a setting that is known; known are {', '.join(rules)}"
            elif not rules[key][1](value):
                yield f"{where} is {reprlib.repr(value)}; it must be {rules[key][0]}"


def _misfits(found: Architecture) -> Iterator[str]:
    """Settings that are allowed one by one and cannot stand together."""
    vision, text = found["vision_cfg"], found["text_cfg"]
    size = image_size(found)
    if "timm_model_name" not in vision:
        patch, width = vision.get("patch_size", 16), vision.get("width", 768)
        head = vision.get("head_width", 64)
        if patch > size:
            yield f"vision_cfg.patch_size is {patch}; images are {size} pixels wide"
        elif (size // patch) ** 2 > LARGEST_GRID:
            yield (
                f"vision_cfg.patch_size is {patch}; images of {size} pixels would have "
                f"{(size // patch) ** 2} patches, and at most {LARGEST_GRID} are allowed"
            )
        if width % head:
            yield f"vision_cfg.head_width is {head}; it must divide vision_cfg.width = {width}"
    width, heads = text.get("width", 512), text.get("heads", 8)
    if width % heads:
        yield f"text_cfg.heads is {heads}; it must divide text_cfg.width = {width}"
    if problem := too_large(parameters(found)):
        yield problem


def image_size(found: Architecture) -> int:
    """The edge in pixels of the images that an architecture's configuration takes."""
    return int(found["vision_cfg"].get("image_size", 224))


def too_large(parameters: float) -> str | None:
    """Why a model of so many parameters is refused, or None."""
    if parameters <= LARGEST:
        return None
    return f"it would have {parameters:.3g} parameters; at most {LARGEST:.0e} are allowed"


def parameters(found: Architecture) -> float:
    """About how many parameters a checked configuration has, but for a vision tower of timm's.

    What timm's have is counted where they are built without memory
    (:mod:`trap2.models.clip.buildable`).
    """
    vision, text, joint = found["vision_cfg"], found["text_cfg"], found["embed_dim"]
    width = text.get("width", 512)
    total = width * (VOCABULARY + text.get("context_length", 77) + joint)
    total += text.get("layers", 12) * width**2 * (4 + 2 * text.get("mlp_ratio", 4.0))
    if "timm_model_name" in vision:
        return float(total)
    width, patch = vision.get("width", 768), vision.get("patch_size", 16)
    grid = math.ceil(image_size(found) / patch) ** 2
    total += width * (3 * patch**2 + grid + joint)
    total += vision.get("layers", 12) * width**2 * (4 + 2 * vision.get("mlp_ratio", 4.0))
    return float(total)
