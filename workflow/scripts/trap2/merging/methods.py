"""What the merging methods of the catalogue compute on encoded layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from trap2.merging import elementwise, spectral
from trap2.merging.spaces import EncodedLayer
from trap2.runtime.catalogue import Options

Tensor = torch.Tensor

Layers = Callable[[], Iterator[tuple[str, EncodedLayer]]]

Merged = Iterator[tuple[str, Tensor]]


def _dropped_layers(
    layers: Layers, options: Options, seed: int
) -> Iterator[tuple[str, EncodedLayer, Tensor]]:
    """Every layer with its dense tasks, after DARE where the method has ``drop``."""
    generator = torch.Generator().manual_seed(seed)
    for name, layer in layers():
        tasks = layer.dense()
        if "drop" in options:
            tasks = elementwise.dare(tasks, options["drop"], generator)
        yield name, layer, tasks


def dare(layers: Layers, options: Options, seed: int) -> Merged:
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        yield name, layer.decode(tasks.sum(0))


def ties(layers: Layers, options: Options, seed: int) -> Merged:
    if options["variant"] == "ties":
        yield from _ties_whole_update(layers, options, seed)
        return
    one_more = options["variant"] != "peft"
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        yield (
            name,
            layer.decode(
                elementwise.ties(tasks, options["keep"], one_more=one_more, tie=layer.tie)
            ),
        )


def _ties_whole_update(layers: Layers, options: Options, seed: int) -> Merged:
    def stacks() -> Iterator[Tensor]:
        return (tasks for _, _, tasks in _dropped_layers(layers, options, seed))

    thresholds = elementwise.whole_update_thresholds(stacks, options["keep"])
    balance = sum(
        float(elementwise.elected_signs(tasks, thresholds, layer.tie).sum(dtype=elementwise.SUM))
        for _, layer, tasks in _dropped_layers(layers, options, seed)
    )
    majority = float(balance > 0) - float(balance < 0)
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        signs = elementwise.elected_signs(tasks, thresholds, layer.tie)
        merged = elementwise.mean_of_agreeing(tasks, thresholds, signs, majority)
        yield name, layer.decode(merged)


def tsv(layer: EncodedLayer, options: Options) -> Tensor:
    if len(layer.shape) < 2:
        return layer.total() / len(layer.tasks)
    rank = min(layer.shape) // len(layer.tasks)
    if options["variant"] == "trap2":
        return spectral.tsv(list(layer.dense()), rank, 0.0)
    reduced = layer.reduced()
    tolerance = max(layer.shape) * layer.eps
    operator = spectral.tsv_projected if options["variant"] == "paper" else spectral.tsv
    return reduced.expand(operator(reduced.cores, rank, tolerance))


def cart(layer: EncodedLayer, options: Options) -> Tensor:
    add_mean = options["variant"] != "paper"
    if len(layer.shape) < 2:
        merged: Tensor = layer.total() / len(layer.tasks) * add_mean
        return merged
    size = options["rank_fraction"] * min(layer.shape)
    rank = max(1, int(size)) if options["variant"] == "cart" else math.ceil(size)
    reduced = layer.reduced()
    core = spectral.cart(
        reduced.stacked(), layer.centred_directions, rank, options["scale"], add_mean=add_mean
    )
    return reduced.expand(core)
