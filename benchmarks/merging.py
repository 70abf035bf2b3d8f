"""Merging LoRA updates: from their factors, against the plain dense way of the definitions.

    python benchmarks/merging.py [--json FILE] [--layers 2] [--repeats 3] [--threads 1]

Every operator and space at the shapes of ViT-B/32 (48 matrices 768×768) and ViT-L/14 (96 matrices
1024×1024), rank 16, eight tasks, float32.  The dense way is written below straight from the
definitions: it forms every ΔW and decomposes matrices of that size.  All layers have one shape, so
it runs on the first ``--layers`` of them and its time is multiplied; ours runs on all of them, and
``ratio`` compares the times of one layer each.  Times are minima over ``--repeats``, encoding
included.  ``again_seconds`` is a second merge with the same encoding, what each further set of
options costs in a sweep.  ``peak_mb`` is what the resident memory grew by at most, the merged
update included, the factors not.

``--checkpoints BLOCKS`` measures instead the memory of merging eight full checkpoints with that
many of ViT-L/14's 24 blocks from disk.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from figures import Figure
from trap2.merging.catalogue import METHODS, check_options, data_free_methods
from trap2.merging.merger import Merger
from trap2.runtime import files
from trap2.runtime.seeding import seed_of
from trap2.updates.delta import CheckpointUpdate, LowRank, Update

Tensor = torch.Tensor
SHAPES = {"ViT-B/32": (48, 768), "ViT-L/14": (96, 1024)}
TASKS, RANK = 8, 16
# A rank cut between close singular values magnifies rounding; the dense way in float32 is itself up
# to 3e-3 from the result, so these are compared with the dense way in float64.  The element-wise
# methods are compared in float32, where a trim decides on the same float32 entries.
SPECTRAL = {"TSV", "CART"}
OPTIONS: dict[str, dict[str, Any]] = {"DARE": {"drop": 0.5}, "TIES+DARE": {"drop": 0.5}}


def random_updates(layers: int, width: int) -> list[Update]:
    """LoRA sets whose ΔW have the size of fine-tuned ones' (entries about 1e-3)."""
    generator = torch.Generator().manual_seed(seed_of(0, "benchmark", str(width)))

    def factors() -> LowRank:
        b = torch.randn(width, RANK, generator=generator) * 0.01
        return LowRank(b, torch.randn(RANK, width, generator=generator) / math.sqrt(width))

    return [{f"layer{i}": factors() for i in range(layers)} for _ in range(TASKS)]


# The plain dense way.


def dense_ties(tasks: Tensor, keep: float) -> Tensor:
    rows = tasks.flatten(1).clone()
    count = int(rows.shape[1] * keep / 100) + 1
    for row in rows:
        row[row.abs() < row.abs().topk(count).values[-1]] = 0
    sums = rows.sum(0, dtype=torch.float64)
    signs = sums.sign()
    signs[signs == 0] = signs.sum().sign()
    agree = rows * signs > 0
    total = (rows * agree).sum(0, dtype=torch.float64)
    return (total / agree.sum(0).clamp(min=1)).to(tasks.dtype).view(tasks.shape[1:])


def dense_dare(tasks: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    dropped = [
        torch.bernoulli(torch.full(task.shape, drop), generator=generator).bool() for task in tasks
    ]
    return tasks * ~torch.stack(dropped) / (1 - drop)


def dense_tsv(tasks: Tensor) -> Tensor:
    k = min(tasks.shape[1:]) // len(tasks)
    us, sigmas, vs = [], [], []
    for task in tasks:
        u, sigma, vt = torch.linalg.svd(task, full_matrices=False)
        tolerance = max(task.shape) * torch.finfo(task.dtype).eps * sigma[0]
        rank = min(k, int((sigma > tolerance).sum()))
        us.append(u[:, :rank])
        sigmas.append(sigma[:rank])
        vs.append(vt[:rank].mT)
    polar = []
    for factor in (torch.cat(us, 1), torch.cat(vs, 1)):
        p, _, q = torch.linalg.svd(factor, full_matrices=False)
        polar.append(p @ q)
    return (polar[0] * torch.cat(sigmas)) @ polar[1].mT


def dense_cart(tasks: Tensor, rank_fraction: float, scale: float) -> Tensor:
    k = math.ceil(rank_fraction * min(tasks.shape[1:]))
    mean = tasks.mean(0)
    merged = mean.clone()
    for task in tasks:
        u, sigma, vt = torch.linalg.svd(task - mean, full_matrices=False)
        merged += scale * (u[:, :k] * sigma[:k]) @ vt[:k]
    return merged


def dense_operator(method: str, tasks: Tensor, generator: torch.Generator) -> Tensor:
    options = check_options(method, OPTIONS.get(method, {}))
    if method == "WA":
        return tasks.mean(0)
    if method == "TA":
        return tasks.sum(0)
    if method == "TSV":
        return dense_tsv(tasks)
    if method == "CART":
        return dense_cart(tasks, options["rank_fraction"], options["scale"])
    if "drop" in options:
        tasks = dense_dare(tasks, options["drop"], generator)
    return tasks.sum(0) if method == "DARE" else dense_ties(tasks, options["keep"])


def dense_full(
    factors: list[LowRank], operate: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> Tensor:
    return operate(torch.stack([f.B.to(dtype) @ f.A.to(dtype) for f in factors]))


def dense_knots(
    factors: list[LowRank], operate: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> Tensor:
    """SVD of the concatenation in float64, as in the published code, and then float32."""
    deltas = [f.B.double() @ f.A.double() for f in factors]
    u, sigma, vt = torch.linalg.svd(torch.cat(deltas, 1), full_matrices=False)
    kept = sigma > 1e-5
    u, sigma, vt = u[:, kept].to(dtype), sigma[kept].to(dtype), vt[kept].to(dtype)
    return (u * sigma) @ operate(torch.stack(vt.split(deltas[0].shape[1], 1)))


def dense_core(
    factors: list[LowRank], operate: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> Tensor:
    lefts, rights = ([getattr(f, name).double() for f in factors] for name in ("B", "A"))
    u = torch.linalg.svd(torch.cat(lefts, 1), full_matrices=False)[0]
    vt = torch.linalg.svd(torch.cat(rights, 0), full_matrices=False)[2]
    cores = [(u.mT @ b) @ (a @ vt.mT) for b, a in zip(lefts, rights, strict=True)]
    return u.to(dtype) @ operate(torch.stack(cores).to(dtype)) @ vt.to(dtype)


DENSE = {"Full": dense_full, "KnOTS": dense_knots, "Core": dense_core}


def dense_merge(
    updates: list[Update], layers: list[str], method: str, space: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(420)
    merged = {}
    for layer in layers:
        factors = [update[layer] for update in updates]
        merged[layer] = DENSE[space](
            [f for f in factors if isinstance(f, LowRank)],
            lambda tasks: dense_operator(method, tasks, generator),
            dtype,
        )
    return merged


# Measuring.


def peak_growth(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``run`` and by how many MB the resident memory grew at most (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = run()
    return result, (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def fastest(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(
    shapes: str, method: str, space: str, dense_layers: int, repeats: int
) -> dict[str, Any]:
    layers, width = SHAPES[shapes]
    updates = random_updates(layers, width)
    options = OPTIONS.get(method, {})

    def ours(updates: list[Update] = updates) -> dict[str, Tensor]:
        return Merger(updates, space).merge(method, **options)

    # What a process allocates once, at its first decomposition, is no method's.
    ours([{"layer0": update["layer0"]} for update in updates])
    merged, peak = peak_growth(ours)
    some = list(merged)[:dense_layers]
    merged = {layer: merged[layer] for layer in some}
    seconds = fastest(ours, repeats)
    encoded = Merger(updates, space)
    again = fastest(lambda: encoded.merge(method, **options), repeats + 1)

    def dense(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        return dense_merge(updates, some, method, space, dtype)

    dense_seconds = fastest(dense, max(1, repeats - 1)) * layers / dense_layers
    expected = dense(torch.float64 if method in SPECTRAL else torch.float32)
    difference = max(
        float((merged[layer] - expected[layer]).norm() / expected[layer].norm()) for layer in some
    )
    return {
        "operator": method,
        "space": space,
        "shapes": shapes,
        "seconds": seconds,
        "again_seconds": again,
        "dense_seconds": dense_seconds,
        "ratio": dense_seconds / seconds,
        "peak_mb": peak,
        "relative_difference": difference,
    }


def write_checkpoints(folder: Path, blocks: int) -> None:
    """A base and eight checkpoints with ViT-L/14's weights in ``blocks`` blocks."""
    width = 1024
    shapes = {
        "attn.q_proj.weight": (width, width),
        "attn.k_proj.weight": (width, width),
        "attn.v_proj.weight": (width, width),
        "attn.out_proj.weight": (width, width),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_proj.weight": (width, 4 * width),
        "ln_1.bias": (width,),
    }
    for number in range(TASKS + 1):
        generator = torch.Generator().manual_seed(seed_of(0, "checkpoint", str(number)))
        weights = {
            f"resblocks.{block}.{name}": torch.randn(*shape, generator=generator)
            for block in range(blocks)
            for name, shape in shapes.items()
        }
        files.write_tensors(folder / f"{number}.safetensors", weights)


def measure_checkpoints(blocks: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoints(folder, blocks)
        base, *tuned = sorted(folder.iterdir())
        size = base.stat().st_size / 2**20
        for method in ("TA", "TIES", "TIES+DARE"):

            def stream(method: str = method) -> None:
                merger = Merger([CheckpointUpdate(base, path) for path in tuned])
                for _ in merger.merge_layers(method, **OPTIONS.get(method, {})):
                    pass

            start = time.perf_counter()
            _, peak = peak_growth(stream)
            yield {
                "operator": method,
                "space": "Full",
                "shapes": f"{TASKS} checkpoints of {blocks} ViT-L/14 blocks",
                "seconds": time.perf_counter() - start,
                "checkpoint_mb": size,
                "peak_mb": peak,
            }


def figures(everything: bool) -> Iterator[Figure]:
    """Every operator and space at both sizes, or those that decide nothing by decomposing."""
    shapes = list(SHAPES) if everything else list(SHAPES)[:1]
    for shape in shapes:
        for method in data_free_methods():
            for space in METHODS[method].spaces:
                if everything or space != "KnOTS":
                    row = measure(shape, method, space, 2 if everything else 1, 3)
                    yield Figure(
                        *("merging", f"{method} in {space} space / dense, {shape}"),
                        *(1 / row["ratio"], 1.0),
                        f"{row['seconds']:.2f} and {row['dense_seconds']:.2f} s",
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--layers", type=int, default=2, help="layers merged the dense way")
    parser.add_argument("--repeats", type=int, default=3, help="runs; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument(
        "--only", nargs="+", choices=data_free_methods(), default=data_free_methods()
    )
    parser.add_argument("--checkpoints", type=int, metavar="BLOCKS")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()))

    if arguments.checkpoints:
        for row in measure_checkpoints(arguments.checkpoints):
            add(row)
    else:
        for shapes in arguments.shapes:
            for method in arguments.only:
                for space in METHODS[method].spaces:
                    add(measure(shapes, method, space, arguments.layers, arguments.repeats))
    if arguments.json:
        files.write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
