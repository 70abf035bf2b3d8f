"""Attacks that change the protected update alone, and then merge it by Task Arithmetic.

With one searched coefficient for all, or with two (:func:`trap2.attacks.coefficients.then_merge`).
Where an attack has several candidates, each is merged so, and the merge that is best on validation
wins, the first among equals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch

from trap2.attacks.coefficients import then_merge
from trap2.attacks.stage import Merge, Stage
from trap2.evaluation.handled import cut, strongest
from trap2.merging.elementwise import trim, trim_thresholds
from trap2.merging.merger import Merger
from trap2.runtime.catalogue import Options
from trap2.updates.delta import LayerUpdate, LowRank, Update, dense, dense_layers

Candidate = tuple[Mapping[str, object], Update]
"""What was chosen, as JSON, and the update that it makes."""


def top_k(stage: Stage, options: Options) -> Iterator[Merge]:
    """Its k strongest singular directions in each layer; k = r/2, r/4, … is searched (ours)."""
    mine = stage.updates[stage.protected]
    rank = max((_rank(mine[layer]) for layer in mine), default=1)
    ranks = [max(1, rank >> n) for n in range(1, options["candidates"] + 1)]
    yield _best(stage, ((({"rank": k}), truncated(mine, k)) for k in dict.fromkeys(ranks)), options)


def noisy_mean(stage: Stage, options: Options) -> Iterator[Merge]:
    """The mean of the update and k noisy copies of it (ours).

    It is the update with noise of σ √k/(k + 1): it jitters what sits on a sharp point.
    """
    mine = stage.updates[stage.protected]
    generator = stage.generator("noise")
    mean = noisy(mine, options["copies"], options["noise"], generator)
    yield then_merge(stage, {**stage.updates, stage.protected: mean}, options["then"])


def interpolation(stage: Stage, options: Options) -> Iterator[Merge]:
    """A point between the base and the protected model, W0 + α ΔW, merged in its place.

    α is the least of 0.1 … 1 at which the update *alone* keeps ``keep`` percent of its accuracy on
    its own task.  This is how it differs from two coefficients, which the accuracy of the merge
    chooses.  After WiSE-FT (Wortsman et al., 2022, arXiv:2109.01903); the choice of α is ours.
    """
    mine, task = stage.updates[stage.protected], stage.protected
    delta = dict(dense_layers(mine))
    alone = {
        tenths / 10: stage.accuracies_at([delta], [tenths / 10], [task])[task]
        for tenths in range(1, 11)
    }
    wanted = options["keep"] / 100 * alone[1.0]
    alpha = next(alpha for alpha, accuracy in alone.items() if accuracy >= wanted)
    nearer = _each(mine, lambda _l, d: alpha * d)
    merge = then_merge(stage, {**stage.updates, task: nearer}, options["then"])
    yield Merge(merge.delta, merge.scale, {**merge.found, "alpha": alpha})


def sign_trim(stage: Stage, options: Options) -> Iterator[Merge]:
    """Its entries that have the sign of the others' sum; the rest is zero.

    The election of TIES (Yadav et al., 2023, arXiv:2306.01708) on the protected update alone;
    where the others sum to zero, the entry stays.
    """
    others = Merger([stage.updates[task] for task in stage.others], "Full").merge("TA")
    agreeing = signs_kept(stage.updates[stage.protected], others)
    yield then_merge(stage, {**stage.updates, stage.protected: agreeing}, options["then"])


def keep_large(stage: Stage, options: Options) -> Iterator[Merge]:
    """Its largest entries of each layer; their share is searched, ``percent`` and its halves.

    TIES' trim (arXiv:2306.01708) on the protected update alone.
    """
    mine = stage.updates[stage.protected]
    shares = [options["percent"] / 2**n for n in range(options["candidates"])]
    yield _best(stage, (({"kept_percent": p}, large_kept(mine, p)) for p in shares), options)


def drop_large(stage: Stage, options: Options) -> Iterator[Merge]:
    """It without the largest entries of each layer; their share is searched as in keep_large."""
    mine = stage.updates[stage.protected]
    shares = [options["percent"] / 2**n for n in range(options["candidates"])]
    yield _best(stage, (({"dropped_percent": p}, large_dropped(mine, p)) for p in shares), options)


def truncated(update: Update, rank: int) -> dict[str, LayerUpdate]:
    """An update with each layer's best approximation of a rank (Eckart and Young, 1936).

    Args:
        update: factors stay factors; a convolution is cut as (d_out, rest), and what has fewer
            than two dimensions stays as it is.
        rank: at least 1.
    """
    return {layer: _truncated(update[layer], rank) for layer in update}


def noisy(update: Update, copies: int, noise: float, generator: np.random.Generator) -> Update:
    """The mean of an update and of copies with normal noise on each entry.

    Args:
        update: by layer.
        copies: how many have noise, at least 1.
        noise: standard deviation, as a share of the layer's root mean square.
        generator: draws, layer by layer.
    """

    def jittered(_layer: str, delta: torch.Tensor) -> torch.Tensor:
        size = float(delta.square().mean().sqrt()) * noise
        draws = sum(generator.standard_normal(tuple(delta.shape)) for _ in range(copies))
        return delta + torch.as_tensor(draws * size / (copies + 1)).to(delta.dtype)

    return _each(update, jittered)


def signs_kept(update: Update, others: Mapping[str, torch.Tensor]) -> Update:
    """An update's entries that have the sign of ``others`` there, or where that is zero."""

    def agreeing(layer: str, delta: torch.Tensor) -> torch.Tensor:
        if layer not in others:
            return delta
        return delta * (delta * others[layer].reshape(delta.shape).sign() >= 0)

    return _each(update, agreeing)


def large_kept(update: Update, percent: float) -> Update:
    """The largest ``percent`` of each layer's entries, int(d · percent / 100) + 1 of them."""
    return _each(update, lambda _layer, delta: _large(delta, percent))


def large_dropped(update: Update, percent: float) -> Update:
    """An update without the entries that :func:`large_kept` keeps."""
    return _each(update, lambda _layer, delta: delta - _large(delta, percent))


def _large(delta: torch.Tensor, percent: float) -> torch.Tensor:
    one = delta[None]
    return trim(one, trim_thresholds(one, percent))[0]


def _each(update: Update, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Update:
    return {layer: change(layer, dense(update[layer])) for layer in update}


def _best(stage: Stage, candidates: Iterable[Candidate], options: Options) -> Merge:
    """The candidate whose merge is worth most on validation."""
    chosen: Merge | None = None
    most = -float("inf")
    for facts, update in candidates:
        merge = then_merge(stage, {**stage.updates, stage.protected: update}, options["then"])
        value = stage.goal(stage.accuracies(merge.delta, merge.scale), options["goal"])
        if value > most:
            found = {**merge.found, **facts, "goal": options["goal"], "value": value}
            chosen, most = Merge(merge.delta, merge.scale, found), value
    assert chosen is not None, "an attack has at least one candidate"
    return chosen


def _rank(part: LayerUpdate) -> int:
    if isinstance(part, LowRank):
        return part.rank
    return min(part.flatten(1).shape) if part.ndim > 1 else 1


def _truncated(part: LayerUpdate, rank: int) -> LayerUpdate:
    if isinstance(part, LowRank):
        return LowRank(*strongest(part, rank)).to(part.B.dtype)
    return cut(part.flatten(1), rank).reshape(part.shape) if part.ndim > 1 else part
