"""Operators that look at single entries: TIES (arXiv:2306.01708) and DARE (arXiv:2311.03099)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

Tensor = torch.Tensor

# Sums over tasks are taken in float64: for float32 updates they are then exact but for extreme
# ranges, so neither an elected sign nor a mean depends on the order of the tasks.
SUM = torch.float64


# Entries of a space this small beside the largest are rounding: float64's, with room for the
# condition of the space's bases.
NOISE = 1e-12

# Entries handled at a time, so that the temporary arrays stay in a core's cache.
CHUNK = 1 << 14


def kept_entries(size: int, keep: float, *, one_more: bool = True) -> int:
    """How many of ``size`` entries trimming to ``keep`` percent leaves.

    int(size · keep / 100) + 1, as in the code of TIES and of the TRAP² paper, at most ``size``;
    without the 1 as in PEFT.  100 percent is no trimming.
    """
    if keep >= 100:
        return size
    return min(size, int(size * keep / 100) + one_more)


def trim_thresholds(tasks: Tensor, keep: float, *, one_more: bool = True) -> Tensor:
    """Each task's smallest magnitude that trimming keeps.

    Args:
        tasks: (N, …).
        keep: percent of the entries to keep, 0 < keep ≤ 100.
        one_more: see :func:`kept_entries`.

    Returns:
        (N,); infinity where no entry is kept.
    """
    rows = tasks.reshape(len(tasks), -1)
    count = kept_entries(rows.shape[1], keep, one_more=one_more)
    if count == 0:
        return rows.new_full((len(rows),), math.inf)
    if count == rows.shape[1]:
        return rows.new_zeros(len(rows))
    place = rows.shape[1] - count
    # NumPy selects with vector instructions, several times faster than torch.kthvalue.
    values = [np.partition(row.abs().numpy(), place)[place] for row in rows]
    return torch.as_tensor(np.array(values))


def whole_update_thresholds(
    stacks: Callable[[], Iterable[Tensor]], keep: float, *, one_more: bool = True
) -> Tensor:
    """:func:`trim_thresholds` over all layers at once, exact, holding one layer at a time.

    Magnitudes are selected 16 bits at a time (non-negative floats are ordered like their bits),
    so the layers are gone through twice in float32 and four times in float64.

    Args:
        stacks: gives the layers' (N, …) tasks anew at each call.
        keep: percent of the entries of the whole update to keep.
        one_more: see :func:`kept_entries`.
    """
    sizes = [stack[0].numel() for stack in stacks()]
    first = next(iter(stacks()))
    tasks, dtype = len(first), first.dtype
    count = kept_entries(sum(sizes), keep, one_more=one_more)
    if count == 0:
        return torch.full((tasks,), math.inf, dtype=dtype)
    bits_type, width = (torch.int32, 32) if dtype == torch.float32 else (torch.int64, 64)
    prefixes = [0] * tasks
    remaining = [count] * tasks
    for shift in range(width - 16, -1, -16):
        histogram = torch.zeros(tasks, 1 << 16, dtype=torch.int64)
        for stack in stacks():
            for task, row in enumerate(stack):
                bits = row.abs().flatten().view(bits_type).to(torch.int64)
                chosen = bits[bits >> min(shift + 16, 63) == prefixes[task]]
                histogram[task] += torch.bincount((chosen >> shift) & 0xFFFF, minlength=1 << 16)
        for task in range(tasks):
            above = histogram[task].flip(0).cumsum(0)
            step = int(torch.searchsorted(above, remaining[task]))
            remaining[task] -= int(above[step - 1]) if step else 0
            prefixes[task] = (prefixes[task] << 16) | (0xFFFF - step)
    return torch.tensor(prefixes).to(bits_type).view(dtype)


def trim(tasks: Tensor, thresholds: Tensor) -> Tensor:
    """Zero every entry of (N, …) ``tasks`` whose magnitude is below its task's threshold."""
    below = torch.nextafter(thresholds, thresholds.new_tensor(-math.inf)).tolist()
    trimmed = torch.empty_like(tasks)
    for row, task, limit in zip(trimmed, tasks, below, strict=True):
        # Zeroes |x| ≤ limit, several times faster than a comparison and a choice.
        torch.hardshrink(task, limit, out=row)
    return trimmed


def elected_signs(tasks: Tensor, thresholds: Tensor, tie: float = 0.0) -> Tensor:
    """Sign of the sum over (N, …) ``tasks``, trimmed at ``thresholds``: −1, 0 or 1 an entry.

    Args:
        tasks: (N, …).
        thresholds: (N,), where each task is trimmed.
        tie: entries that a space has computed carry its rounding.  A sum of at most ``tie`` times
            the sum of its entries' magnitudes, or of at most :data:`NOISE` times the largest
            entry of all, is zero.  With 0 only a sum that is zero is.
    """
    signs = torch.empty_like(tasks[0])
    noise = NOISE * float(tasks.abs().max()) if tie and tasks.numel() else 0.0
    for part, out in _chunks(tasks, signs):
        trimmed = trim(part, thresholds)
        total = trimmed.sum(0, dtype=SUM)
        if tie:
            size = trimmed.abs_().sum(0, dtype=SUM).mul_(tie).clamp_(min=noise)
            total[total.abs() <= size] = 0
        out.copy_(total.sign_())
    return signs


def mean_of_agreeing(tasks: Tensor, thresholds: Tensor, signs: Tensor, majority: float) -> Tensor:
    """Mean over the tasks whose trimmed entry has the elected sign; 0 where no entry has it.

    Args:
        tasks: (N, …).
        thresholds: (N,), where each task is trimmed.
        signs: (…) elected signs; where 0, ``majority`` is elected.
        majority: −1, 0 or 1.
    """
    elected = torch.where(signs == 0, majority, signs) if majority else signs
    mean = torch.empty_like(signs)
    for part, out, sign in _chunks(tasks, mean, elected):
        agreeing = trim(part, thresholds).mul_(sign).relu_()
        count = agreeing.sign().sum(0).clamp_(min=1)
        out.copy_(agreeing.sum(0, dtype=SUM).div_(count).mul_(sign))
    return mean


def _chunks(tasks: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of all tasks' and the others' entries, a cache's worth at a time."""
    columns = tasks.reshape(len(tasks), -1).split(CHUNK, 1)
    return zip(columns, *(other.view(-1).split(CHUNK) for other in others), strict=True)


def ties(tasks: Tensor, keep: float, *, one_more: bool = True, tie: float = 0.0) -> Tensor:
    """TIES on one matrix: trim each task, elect a sign an entry, average what agrees with it.

    Where the trimmed entries sum to zero, the majority of the elected signs decides.

    Args:
        tasks: (N, …).
        keep: percent of each task's entries to keep, 0 < keep ≤ 100.
        one_more: see :func:`kept_entries`.
        tie: see :func:`elected_signs`.

    Returns:
        (…), dtype of ``tasks``.
    """
    thresholds = trim_thresholds(tasks, keep, one_more=one_more)
    signs = elected_signs(tasks, thresholds, tie)
    return mean_of_agreeing(tasks, thresholds, signs, float(signs.sum(dtype=SUM).sign()))


def dare(tasks: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    """DARE: drop entries with probability ``drop`` and divide the others by 1 − ``drop``.

    Draws float32 Bernoulli variables task by task; with a generator seeded 420 and layers in
    model order these are the masks of the code of the TRAP² paper.

    Args:
        tasks: (N, …).
        drop: p of dropping, 0 ≤ p < 1 (the paper's text writes p for keeping).
        generator: CPU generator.
    """
    probability = torch.full(tasks.shape[1:], drop, dtype=torch.float32)
    mask = torch.empty_like(probability)
    dropped = torch.empty_like(tasks)
    for row, task in zip(dropped, tasks, strict=True):
        torch.bernoulli(probability, generator=generator, out=mask)
        torch.mul(task, mask.neg_().add_(1), out=row).div_(1 - drop)
    return dropped
