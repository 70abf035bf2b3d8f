"""A set of updates, encoded once, merged many times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from trap2.merging.catalogue import METHODS, check_options, data_free_methods
from trap2.merging.spaces import SPACES, EncodedLayer
from trap2.runtime.catalogue import CatalogueError
from trap2.updates.delta import Update, UpdateError, check_updates, is_low_rank, layer_updates

DARE_SEED = 420
"""The seed of the published code's DARE masks."""


class Merger:
    """Merges a fixed set of updates in one space.

    LoRA layers are encoded at construction and keep what does not depend on a method's options
    (bases, singular vectors), so that a sweep pays for it once.  Dense layers are read anew at
    each merge and not kept, so that full checkpoints stream from disk.

    Args:
        updates: one a task; the order matters to DARE's draws only.
        space: ``Full``, ``KnOTS`` or ``Core`` (:data:`trap2.merging.spaces.SPACES`).
        dtype: working dtype of dense matrices and of the result.

    Raises:
        UpdateError: the updates do not belong together, hold NaN or infinity, or are dense and
            the space is not Full.
        CatalogueError: an unknown space.
    """

    def __init__(
        self, updates: Sequence[Update], space: str = "Full", dtype: torch.dtype = torch.float32
    ) -> None:
        if space not in SPACES:
            raise CatalogueError(f"unknown merge space {space!r}; known: {', '.join(SPACES)}")
        self.updates = tuple(updates)
        self.space = space
        self.dtype = dtype
        self.shapes = check_updates(self.updates)
        self._encoded: dict[str, EncodedLayer] = {}
        for layer in self.shapes:
            if is_low_rank(self.updates, layer):
                self._encoded[layer] = self._encode(layer)
            elif space != "Full":
                raise UpdateError(
                    f"layer {layer} is dense, as in a full checkpoint; it merges in the Full space "
                    f"only, not in {space}"
                )

    def _encode(self, layer: str) -> EncodedLayer:
        tasks = layer_updates(self.updates, layer, self.shapes[layer])
        return SPACES[self.space](tasks, self.dtype)

    def _layers(self) -> Iterator[tuple[str, EncodedLayer]]:
        for layer in self.shapes:
            yield layer, self._encoded.get(layer) or self._encode(layer)

    def merge(
        self, method: str, *, generator_seed: int = DARE_SEED, **options: Any
    ) -> dict[str, torch.Tensor]:
        """The merged ΔW at coefficient s = 1, by layer; see :meth:`merge_layers`.

        Args:
            method: a name of :data:`trap2.merging.catalogue.METHODS`.
            generator_seed: seed of a method that draws at random.
            **options: options of the method; those not given have its defaults.
        """
        merged = self.merge_layers(method, generator_seed=generator_seed, **options)
        # Allocated before the work, so that what it allocates and frees leaves no holes between.
        whole = {layer: torch.empty(s, dtype=self.dtype) for layer, s in self.shapes.items()}
        for layer, delta in merged:
            whole[layer].copy_(delta)
        return whole

    def merge_layers(
        self, method: str, *, generator_seed: int = DARE_SEED, **options: Any
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The merged ΔW at coefficient s = 1, layer by layer in model order.

        Args:
            method: a name in :data:`trap2.merging.catalogue.METHODS`.
            generator_seed: seeds DARE's masks.
            options: the method's options; the others are at their defaults.

        Returns:
            Pairs of layer name and merged ΔW, shaped like the layer's weight, in ``dtype``.

        Raises:
            CatalogueError: an unknown method or option, an option out of its range, or a method
                that needs data or does not run in this space.
            UpdateError: a dense layer holds NaN or infinity, or the method returns these or another
                shape (raised when the layer is read).
        """
        complete = check_options(method, options)
        entry = METHODS[method]
        if entry.needs != "nothing":
            raise CatalogueError(
                f"{method} needs images of the tasks, and here are updates alone; "
                f"choose from {', '.join(data_free_methods())}"
            )
        if self.space not in entry.spaces:
            raise CatalogueError(
                f"{method} runs in {', '.join(entry.spaces)}, not in {self.space}"
                + ("; its result is the same in every space" if method in {"WA", "TA"} else "")
            )
        merged = entry.merge(self._layers, complete, generator_seed)
        return ((layer, self._shaped(method, layer, delta)) for layer, delta in merged)

    def _shaped(self, method: str, layer: str, delta: torch.Tensor) -> torch.Tensor:
        shape = tuple(self.shapes[layer])
        what = f"{method} in {self.space} space: the merged layer {layer}"
        matrix = (shape[0], math.prod(shape[1:])) if shape else shape
        if tuple(delta.shape) not in {shape, matrix}:
            raise UpdateError(f"{what} has shape {tuple(delta.shape)}; it must be {shape}")
        if not delta.isfinite().all():
            raise UpdateError(f"{what} holds NaN or infinity")
        return delta.reshape(shape)
