"""The operators against outputs of the reference repositories' own code (tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trap2.merging import elementwise
from trap2.merging.merger import Merger
from trap2.merging.spaces import SPACES
from trap2.runtime import files
from trap2.updates.delta import LowRank, Update

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
SPACE = {"full": "Full", "knots": "KnOTS", "core": "Core"}
METHOD = {"ties": "TIES", "dare": "DARE", "dareties": "TIES+DARE", "tsv": "TSV", "cart": "CART"}
OPTION = {
    "topK": "keep",
    "dare_pruning_coeffs": "drop",
    "cart_pruning_rank": "rank_fraction",
    "cart_scaling_coeffs": "scale",
}
# float32 against float64 references: relative to the largest entry.  A float32 path may flip an
# entry of TIES whose margin to a decision is below its resolution; none here is below 1e-6.
FLOAT32 = 2e-5


def cases(operators: set[str]) -> list[Any]:
    return [
        pytest.param(entry, config, id=f"{entry['file'].removesuffix('.npz')}-{config}")
        for entry in MANIFEST["files"]
        if entry["operator"] in operators
        for config in entry["configs"]
    ]


def read(entry: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / entry["file"], allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def golden_updates(
    arrays: dict[str, np.ndarray], dtype: torch.dtype = torch.float64, weights: Any = None
) -> list[Update]:
    layers = [name.removeprefix("A_") for name in arrays if name.startswith("A_")]
    factor = torch.ones(100, dtype=dtype) if weights is None else torch.tensor(weights, dtype=dtype)
    return [
        {
            layer: LowRank(
                factor[task] * torch.from_numpy(arrays[f"B_{layer}"][task]).to(dtype),
                torch.from_numpy(arrays[f"A_{layer}"][task]).to(dtype),
            )
            for layer in layers
        }
        for task in range(len(arrays[f"A_{layers[0]}"]))
    ]


def expected(arrays: dict[str, np.ndarray], config: str) -> dict[str, torch.Tensor]:
    prefix = f"out__{config}__"
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def check(
    merged: dict[str, torch.Tensor],
    reference: dict[str, torch.Tensor],
    tolerance: dict[str, float],
    dtype: torch.dtype,
) -> None:
    assert merged.keys() == reference.keys()
    for layer, value in reference.items():
        assert merged[layer].dtype == dtype
        if dtype == torch.float64:
            torch.testing.assert_close(merged[layer], value, **tolerance)
        else:
            difference = (merged[layer].double() - value).abs().max()
            assert difference <= FLOAT32 * value.abs().max()


def test_files_are_the_ones_that_were_made() -> None:
    for entry in MANIFEST["files"]:
        assert files.sha256(GOLDEN / entry["file"]) == entry["sha256"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("entry", "config"), cases(set(METHOD)))
def test_operator_in_its_space(entry: dict[str, Any], config: str, dtype: torch.dtype) -> None:
    """TIES, DARE (their own masks, from seed 420), TSV and CART in Full, KnOTS and Core."""
    settings = entry["configs"][config]
    options = {ours: settings[theirs] for theirs, ours in OPTION.items() if theirs in settings}
    arrays = read(entry)
    scale = settings["scale"]
    weights, s = (scale, 1.0) if isinstance(scale, list) else (None, scale)
    merger = Merger(golden_updates(arrays, dtype, weights), SPACE[entry["space"]], dtype)
    merged = merger.merge(METHOD[entry["operator"]], **options)
    scaled = {layer: s * delta for layer, delta in merged.items()}
    check(scaled, expected(arrays, config), entry["tolerance"], dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("entry", "config"), cases({"ta", "avg"}))
def test_sum_and_mean_in_every_space(
    entry: dict[str, Any], config: str, dtype: torch.dtype
) -> None:
    """TA is the same in every space; here the reference's KnOTS and Core paths say so too."""
    arrays = read(entry)
    scale = entry["configs"][config]["scale"]
    weights, s = (scale, 1.0) if isinstance(scale, list) else (None, scale)
    updates = golden_updates(arrays, dtype, weights)
    method = "WA" if entry["operator"] == "avg" else "TA"
    merged = Merger(updates, "Full", dtype).merge(method)
    check(
        {k: s * v for k, v in merged.items()}, expected(arrays, config), entry["tolerance"], dtype
    )
    encode = SPACES[SPACE[entry["space"]]]
    for layer, value in expected(arrays, config).items():
        encoded = encode([update[layer] for update in updates], dtype)
        check(
            {layer: s * encoded.decode(encoded.total()) / (3 if method == "WA" else 1)},
            {layer: value},
            entry["tolerance"],
            dtype,
        )


@pytest.mark.parametrize(("entry", "config"), cases({"dare", "dareties"}))
def test_masks_of_the_reference_code(entry: dict[str, Any], config: str) -> None:
    """The generator draws the reference's masks, layer after layer, in the space's shape."""
    arrays = read(entry)
    generator = torch.Generator().manual_seed(420)
    drop = entry["configs"][config]["dare_pruning_coeffs"]
    encode = SPACES[SPACE[entry["space"]]]
    for layer in ("attn", "mlp"):
        tasks = encode([update[layer] for update in golden_updates(arrays)], torch.float64).dense()
        dropped = elementwise.dare(tasks, drop, generator)
        kept = torch.from_numpy(arrays[f"mask__{config}__{layer}"])
        assert torch.equal(dropped != 0, kept)
        torch.testing.assert_close(dropped[kept], tasks[kept] / (1 - drop))
