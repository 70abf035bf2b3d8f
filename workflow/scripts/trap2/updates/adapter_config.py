"""What an adapter's configuration may say, and whether its tensors say the same.

A key that changes what the adapter computes is read or refused, never passed over; a key that is
not known is refused when it is set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from trap2.runtime.files import FileError

# Keys that say who made the adapter, how it was initialised or trained, or how it is run, and
# leave ΔW as it is.
HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
        # Compresses what the backward pass keeps.
        "velora_config",
    }
)

READ = frozenset(
    {
        "bias",
        "exclude_modules",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "peft_type",
        "r",
        "target_modules",
        "use_dora",
        "use_rslora",
    }
)

# Keys with which an adapter is no LoRA, rsLoRA or DoRA of one rank on linear layers alone.
REFUSED = {
    "alora_invocation_tokens": "it acts on some tokens only",
    "alpha_pattern": "only one α for all layers can be read",
    "arrow_config": "it chooses among several adapters by the input",
    "fan_in_fan_out": "its weights lie transposed",
    "kasa_config": "it has singular values beside its factors",
    "layer_replication": "it was trained on a model whose layers are repeated",
    "lora_bias": "ΔW has a bias beside BA",
    "megatron_config": "its layers are spread over several devices",
    "modules_to_save": "it replaces whole modules beside its factors",
    "monteclora_config": "it samples its factors",
    "rank_pattern": "only one rank for all layers can be read",
    "target_parameters": "it adapts parameters that are no linear layer's weight",
    "trainable_token_indices": "it replaces token embeddings",
    "use_bdlora": "its factors are block-diagonal",
    "use_qalora": "it pools its inputs",
}

# Initialisations that subtract the first B₀A₀ from W0 or quantise it: what is trained then adds to
# another base.  PEFT subtracts it again whenever it loads such an adapter.
CHANGES_BASE = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
    "loftq": "LoftQ",
}

# Initialisations that leave W0 as it is.
LEAVES_BASE = ("gaussian", "eva", "orthogonal", "mica")


class Targets(TypedDict, total=False):
    """The keys that choose layers; a text stands for one name or a pattern."""

    target_modules: str | list[str]
    exclude_modules: str | list[str]
    layers_to_transform: list[int]
    layers_pattern: str | list[str]


@dataclass(frozen=True)
class Configuration:
    """What an adapter's configuration says of ΔW.

    Attributes:
        path: the file.
        rank: r ≥ 1 of every layer.
        scale: the nominal scale on BA: α / r, or α / √r with rsLoRA.
        dora: whether ΔW is DoRA's, which has magnitudes.
        targets: the keys that choose layers.
    """

    path: Path
    rank: int
    scale: float
    dora: bool
    targets: Targets

    def check_rank(self, layer: str, rank: int) -> None:
        """Compare r with a layer's factors.

        Raises:
            FileError: they differ.
        """
        if rank != self.rank:
            raise FileError(
                f"{self.path}: 'r' is {self.rank}, and the factors of {layer} have rank {rank}; "
                "the two files are not of one adapter"
            )

    def check_layers(self, layers: Collection[str]) -> None:
        """Compare ``target_modules`` and the like with the layers that have factors.

        Patterns are not evaluated: a hostile one may take for ever.

        Raises:
            FileError: a layer has factors that PEFT would not load, or a layer that is named in
                full has none.
        """
        chosen = _names(self.targets.get("target_modules"))
        excluded = _names(self.targets.get("exclude_modules")) or frozenset()
        missing = set(chosen or ())
        for layer in layers:
            endings = _endings(layer)
            if chosen is not None and not chosen & endings:
                raise FileError(
                    f"{self.path}: 'target_modules' does not name '{layer}', which has factors; "
                    "the two files are not of one adapter"
                )
            if excluded & endings:
                raise FileError(
                    f"{self.path}: 'exclude_modules' names '{layer}', which has factors"
                )
            self._check_depth(layer)
            missing -= endings
        for name in sorted(missing):
            if "." in name:
                raise FileError(
                    f"{self.path}: 'target_modules' names {_shown(name)}, which has no factors; "
                    "the adapter is incomplete"
                )

    def _check_depth(self, layer: str) -> None:
        depths = self.targets.get("layers_to_transform")
        if not depths or self.targets.get("layers_pattern"):
            return
        found = re.match(r".*\.[^.]*\.(\d+)\.", layer)
        if found is None or int(found[1]) not in depths:
            raise FileError(
                f"{self.path}: 'layers_to_transform' is {_shown(depths)}, and '{layer}' has factors"
            )


def _names(value: Any) -> frozenset[str] | None:
    """The names that choose layers; ``None`` for a pattern, or where nothing is said."""
    if isinstance(value, str) and re.fullmatch(r"[\w-]*", value) and value != "all-linear":
        return frozenset([value])
    return frozenset(value) if isinstance(value, list) else None


def _endings(layer: str) -> frozenset[str]:
    """A layer's name and what it ends with after each dot, by which PEFT's lists choose it."""
    parts = layer.split(".")
    return frozenset(".".join(parts[start:]) for start in range(len(parts)))


def check_configuration(config: Any, path: Path) -> Configuration:
    """Check an adapter's configuration as it was read from JSON.

    Raises:
        FileError: it is of another kind of adapter, or has a key that is not understood.
    """
    if not isinstance(config, dict) or not {"r", "lora_alpha"} <= config.keys():
        raise FileError(f"{path}: not a LoRA configuration (no 'r' or 'lora_alpha')")
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise FileError(f"{path}: 'peft_type' is {_shown(kind)}; only LORA can be read")
    _check_keys(config, path)
    _check_initialisation(config.get("init_lora_weights"), path)
    rank, alpha = _rank(config["r"], path), _alpha(config["lora_alpha"], path)
    _check_dropout(config.get("lora_dropout"), path)
    return Configuration(
        path,
        rank,
        alpha / math.sqrt(rank) if _flag(config, "use_rslora", path) else alpha / rank,
        _flag(config, "use_dora", path),
        _targets(config, path),
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _check_keys(config: Mapping[str, object], path: Path) -> None:
    for key, reason in REFUSED.items():
        if config.get(key):
            raise FileError(
                f"{path}: '{key}' is set to {_shown(config[key])}; {reason}. Only LoRA, rsLoRA "
                "and DoRA adapters with one rank can be read"
            )
    if config.get("bias", "none") != "none":
        raise FileError(
            f"{path}: 'bias' is {_shown(config['bias'])}; only 'none' can be merged, without "
            "biases of its own"
        )
    for key in sorted(config.keys() - HARMLESS - READ - REFUSED.keys()):
        if config[key]:
            raise FileError(
                f"{path}: {_shown(key)} is set to {_shown(config[key])}, and what it does to the "
                "adapter is not known here. If it does not change ΔW, delete the key"
            )


def _check_initialisation(value: Any, path: Path) -> None:
    if value is None or isinstance(value, bool):
        return
    name = value.lower() if isinstance(value, str) else ""
    for prefix, title in CHANGES_BASE.items():
        if name.startswith(prefix):
            raise FileError(
                f"{path}: 'init_lora_weights' is {_shown(value)}; {title} changes the base that "
                f"the adapter was trained on, so that W0 + BA is not its model. {_remedy(prefix)}"
            )
    if name not in LEAVES_BASE:
        raise FileError(
            f"{path}: 'init_lora_weights' is {_shown(value)}; whether that initialisation changes "
            f"the base is not known here. Known are true, false, {', '.join(LEAVES_BASE)}"
        )


def _remedy(prefix: str) -> str:
    whole = "merge it with PEFT (merge_and_unload) and give the whole checkpoint"
    if prefix == "loftq":
        return f"Give no adapter: {whole}"
    return (
        "Convert it to plain LoRA with PEFT's save_pretrained(…, path_initial_model_for_weight_"
        f"conversion=FOLDER), FOLDER the adapter before its first step; or {whole}"
    )


def _rank(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 20:
        raise FileError(f"{path}: 'r' is {_shown(value)}; it must be a whole number of at least 1")
    return value


def _alpha(value: Any, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < 1e30:
        raise FileError(f"{path}: 'lora_alpha' is {_shown(value)}; it must be a positive number")
    found: float = value
    return found


def _check_dropout(value: Any, path: Path) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= 1):
        raise FileError(f"{path}: 'lora_dropout' is {_shown(value)}; it must be in [0, 1]")


def _flag(config: Mapping[str, object], key: str, path: Path) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise FileError(f"{path}: {key!r} is {_shown(value)}; it must be true or false")
    return bool(value)


def _targets(config: Mapping[str, object], path: Path) -> Targets:
    keys = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    found = {key: config[key] for key in keys if config.get(key) is not None}
    for key, value in found.items():
        of = int if key == "layers_to_transform" else str
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, of) and not isinstance(item, bool) for item in items):
            what = "whole numbers" if of is int else "names"
            raise FileError(f"{path}: {key!r} is {_shown(value)}; it must be {what}")
    depths = found.get("layers_to_transform")
    if found.get("layers_pattern") and not depths:
        raise FileError(f"{path}: 'layers_pattern' is set, and 'layers_to_transform' is not")
    for key in ("layers_to_transform", "layers_pattern"):
        if found.get(key) and isinstance(found.get("target_modules"), str):
            raise FileError(f"{path}: {key!r} is set, which goes with a list of target_modules")
    if isinstance(depths, int):
        found["layers_to_transform"] = [depths]
    return cast("Targets", found)
