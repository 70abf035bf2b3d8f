"""Updates: what fine-tuning adds to the base weights, ΔW = W − W0, layer by layer.

An update maps a layer's weight name to its ΔW: low-rank factors (:class:`LowRank`, LoRA) or a
dense tensor (full fine-tuning).  A layer that an update does not hold is one that its training
left alone: its ΔW is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from trap2.runtime.errors import Trap2Error
from trap2.runtime.reading import read_header
from trap2.updates.weights import in_full_precision, kind_of, weight_shapes


class UpdateError(Trap2Error):
    """Updates that cannot be merged; the message names the layer and what differs."""


@dataclass(frozen=True)
class LowRank:
    """A low-rank ΔW = B A, the LoRA scale (α/r, α/√r) already folded into B by whoever read it.

    Attributes:
        B: (d_out, r).
        A: (r, d_in).  r = 0 is the zero update.

    Raises:
        UpdateError: the factors are not matrices with the same inner dimension.
    """

    B: torch.Tensor
    A: torch.Tensor

    def __post_init__(self) -> None:
        if self.B.ndim != 2 or self.A.ndim != 2 or self.B.shape[1] != self.A.shape[0]:
            raise UpdateError(
                f"low-rank factors B {tuple(self.B.shape)} and A {tuple(self.A.shape)} do not "
                "multiply: B is (d_out, r) and A is (r, d_in)"
            )

    @classmethod
    def zero(cls, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> LowRank:
        """The zero update of a weight: factors of rank 0 for ``shape`` and of ``dtype``."""
        return cls(torch.zeros(shape[0], 0, dtype=dtype), torch.zeros(0, shape[1], dtype=dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of ΔW."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def rank(self) -> int:
        """The inner dimension r of the factors (the numerical rank may be smaller)."""
        return self.B.shape[1]

    def to(self, dtype: torch.dtype) -> LowRank:
        """The same update with both factors in ``dtype``."""
        return LowRank(self.B.to(dtype), self.A.to(dtype))

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """ΔW as a (d_out, d_in) tensor, multiplied in ``dtype``."""
        return self.B.to(dtype) @ self.A.to(dtype)


LayerUpdate = LowRank | torch.Tensor


Update = Mapping[str, LayerUpdate]


def dense(part: LayerUpdate) -> torch.Tensor:
    """A layer's ΔW as a matrix in float32, or the tensor that it is, in at least float32."""
    return part.dense() if isinstance(part, LowRank) else in_full_precision(part)


def dense_layers(update: Update) -> Iterator[tuple[str, torch.Tensor]]:
    """Every layer's ΔW as a tensor, one at a time."""
    for layer in update:
        yield layer, dense(update[layer])


def to_device(update: Update, device: torch.device) -> dict[str, LayerUpdate]:
    """A copy of an update in memory, on a device."""
    found: dict[str, LayerUpdate] = {}
    for layer in update:
        part = update[layer]
        if isinstance(part, LowRank):
            found[layer] = LowRank(part.B.to(device), part.A.to(device))
        else:
            found[layer] = part.to(device)
    return found


class CheckpointUpdate(Mapping[str, torch.Tensor]):
    """ΔW = W − W0 of a full checkpoint, read from disk one layer at a time.

    Every tensor is a weight or a known buffer (position indices, counters); known buffers are no
    weights and are left out.  Differences are taken in float32, or in float64 when both files
    hold float64.  No file stays open and nothing is kept, so the memory is that of one layer.

    Args:
        base_path: safetensors file with the base weights W0.
        checkpoint_path: safetensors file with the fine-tuned weights W, under the same names.
        partial: the checkpoint may lack weights of the base; their ΔW is zero.

    Raises:
        FileError: a file is missing, is not safetensors, or holds quantised weights.
        UpdateError: the checkpoint holds a weight that the base lacks, one of another shape, or
            another value of a buffer; or it lacks a weight and is not ``partial``.
    """

    def __init__(
        self, base_path: str | Path, checkpoint_path: str | Path, *, partial: bool = False
    ) -> None:
        self.base_path = Path(base_path)
        self.checkpoint_path = Path(checkpoint_path)
        base = weight_shapes(self.base_path)
        self._shapes = weight_shapes(self.checkpoint_path)
        for layer, shape in self._shapes.items():
            if layer not in base:
                raise UpdateError(
                    f"{self.checkpoint_path}: layer {layer} is not in the base {self.base_path}; "
                    f"{kind_of(self._shapes)}"
                )
            if shape != base[layer]:
                raise UpdateError(
                    f"layer {layer}: {self.checkpoint_path} has shape {shape}, the base "
                    f"{self.base_path} has {base[layer]}; they are not the same model"
                )
        missing = [layer for layer in base if layer not in self._shapes]
        if missing and not partial:
            raise UpdateError(
                f"{self.checkpoint_path}: lacks {len(missing)} of the base's {len(base)} weights, "
                f"such as {missing[0]}; it is no whole checkpoint. If it is one part of several, "
                "join them into one file"
            )
        self._check_buffers()

    def _check_buffers(self) -> None:
        """A buffer that counts or indexes must be the base's, if that has it."""
        names = [read_header(path).tensors for path in (self.checkpoint_path, self.base_path)]
        shared = [name for name in names[0] if name in names[1] and name not in self._shapes]
        with (
            safe_open(self.checkpoint_path, "pt") as tuned,
            safe_open(self.base_path, "pt") as base,
        ):
            for name in shared:
                if name.endswith("num_batches_tracked"):
                    continue  # used in training only
                ours, theirs = base.get_tensor(name), tuned.get_tensor(name)
                if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
                    raise UpdateError(
                        f"{self.checkpoint_path}: the buffer {name} is another than in the base "
                        f"{self.base_path}; they are not the same model"
                    )

    def shape_of(self, layer: str) -> tuple[int, ...]:
        """The shape of one layer's ΔW, without reading it."""
        return self._shapes[layer]

    def __getitem__(self, layer: str) -> torch.Tensor:
        if layer not in self._shapes:
            raise KeyError(layer)
        with (
            safe_open(self.checkpoint_path, "pt") as tuned,
            safe_open(self.base_path, "pt") as base,
        ):
            weight, origin = tuned.get_tensor(layer), base.get_tensor(layer)
            dtype = torch.promote_types(torch.float32, weight.dtype)
            if origin.dtype != torch.float64:
                dtype = torch.float32
            found: torch.Tensor = weight.to(dtype) - origin.to(dtype)
            return found

    def __contains__(self, layer: object) -> bool:
        # A Mapping's own test would read the tensor.
        return layer in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def shape_of(update: Update, layer: str) -> tuple[int, ...]:
    """The shape of one layer's ΔW; a :class:`CheckpointUpdate` is asked without reading it.

    Args:
        update: what is asked.
        layer: the layer's name.

    Raises:
        UpdateError: the layer is neither a tensor nor low-rank factors.
    """
    if isinstance(update, CheckpointUpdate):
        return update.shape_of(layer)
    delta = update[layer]
    if not isinstance(delta, torch.Tensor | LowRank):
        raise UpdateError(
            f"layer {layer} is of type {type(delta).__name__}; it must be a tensor or LowRank(B, A)"
        )
    return tuple(delta.shape)


def check_updates(updates: Sequence[Update]) -> dict[str, tuple[int, ...]]:
    """Check that updates belong together; the shapes of all their layers in model order.

    The order is that of the first update, followed by what the others add.  An update that lacks
    a layer leaves it alone (zero ΔW).  Values are checked where they are read
    (:func:`layer_updates`), so that checkpoints on disk stay there.

    Raises:
        UpdateError: there is no update, an update is empty, or two updates give one layer
            different shapes.
    """
    if not updates:
        raise UpdateError("no updates: merging takes at least one")
    shapes: dict[str, tuple[int, ...]] = {}
    owner: dict[str, int] = {}
    for number, update in enumerate(updates):
        if not len(update):
            raise UpdateError(f"update {number} has no layers; is its checkpoint complete?")
        for layer in update:
            shape = shape_of(update, layer)
            if shapes.setdefault(layer, shape) != shape:
                raise UpdateError(
                    f"layer {layer}: update {owner[layer]} has shape {shapes[layer]}, update "
                    f"{number} has {shape}; only updates of one base model can be merged"
                )
            owner.setdefault(layer, number)
    return shapes


def is_low_rank(updates: Sequence[Update], layer: str) -> bool:
    """Whether every task that has the layer has it as :class:`LowRank`; reads no checkpoint."""
    return all(
        not isinstance(update, CheckpointUpdate) and isinstance(update[layer], LowRank)
        for update in updates
        if layer in update
    )


def layer_updates(
    updates: Sequence[Update], layer: str, shape: Sequence[int]
) -> tuple[LayerUpdate, ...]:
    """Every task's ΔW of one layer, checked; zero (rank 0, or zeros) where a task lacks it.

    All are :class:`LowRank` when every task that has the layer has it so; else all are dense.

    Raises:
        UpdateError: a value is NaN or infinite, or a tensor is not of floating point.
    """
    found: dict[int, LayerUpdate] = {}
    for number, update in enumerate(updates):
        if layer in update:
            found[number] = update[layer]
            _check_values(found[number], layer, number)
    if all(isinstance(part, LowRank) for part in found.values()):
        empty: LayerUpdate = LowRank.zero(shape)
        return tuple(found.get(number, empty) for number in range(len(updates)))
    parts = {number: dense(part) for number, part in found.items()}
    empty = torch.zeros(tuple(shape))
    return tuple(parts.get(number, empty) for number in range(len(updates)))


def _check_values(part: LayerUpdate, layer: str, number: int) -> None:
    tensors = {"B": part.B, "A": part.A} if isinstance(part, LowRank) else {"ΔW": part}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UpdateError(
                f"layer {layer}: {name} of update {number} is {tensor.dtype}, not floating point"
            )
        if not torch.isfinite(tensor).all():
            raise UpdateError(
                f"layer {layer}: {name} of update {number} holds NaN or infinity; its training "
                "diverged or the file is damaged"
            )
