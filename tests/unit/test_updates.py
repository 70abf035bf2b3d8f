"""Updates: what belongs together, zero and missing layers, checkpoints on disk."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from trap2.merging.catalogue import data_free_methods
from trap2.merging.merger import Merger
from trap2.runtime import files
from trap2.updates.delta import (
    CheckpointUpdate,
    LowRank,
    UpdateError,
    check_updates,
    is_low_rank,
    layer_updates,
)


def test_low_rank_factors_must_multiply() -> None:
    with pytest.raises(UpdateError, match=r"B \(4, 2\) and A \(3, 5\) do not multiply"):
        LowRank(torch.ones(4, 2), torch.ones(3, 5))


def test_shapes_in_model_order_over_all_updates() -> None:
    one = {"b": torch.ones(2, 3), "a": LowRank(torch.ones(4, 1), torch.ones(1, 5))}
    two = {"c": torch.ones(7), "b": torch.ones(2, 3)}
    assert list(check_updates([one, two]).items()) == [("b", (2, 3)), ("a", (4, 5)), ("c", (7,))]


def test_updates_that_do_not_belong_together() -> None:
    one = {"q": LowRank(torch.ones(4, 1), torch.ones(1, 5))}
    with pytest.raises(
        UpdateError, match=r"layer q: update 0 has shape \(4, 5\), update 1 has \(4, 6\)"
    ):
        check_updates([one, {"q": torch.ones(4, 6)}])
    with pytest.raises(UpdateError, match="no updates"):
        check_updates([])
    with pytest.raises(UpdateError, match="update 1 has no layers"):
        check_updates([one, {}])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(bad: float) -> None:
    good = {"q": LowRank(torch.ones(4, 1), torch.ones(1, 5))}
    factor = torch.ones(1, 5)
    factor[0, 3] = bad
    with pytest.raises(UpdateError, match="layer q: A of update 1 holds NaN or infinity"):
        Merger([good, {"q": LowRank(torch.ones(4, 1), factor)}], "Core")
    dense = torch.ones(4, 5)
    dense[1, 2] = bad
    with pytest.raises(UpdateError, match="layer q: ΔW of update 0 holds NaN or infinity"):
        Merger([{"q": dense}, good]).merge("TA")


def test_integers_are_no_update() -> None:
    with pytest.raises(UpdateError, match=r"layer q: ΔW of update 0 is torch.int64"):
        Merger([{"q": torch.ones(2, 2, dtype=torch.int64)}]).merge("TA")


def test_missing_layers_are_zero() -> None:
    part = LowRank(torch.ones(4, 2), torch.ones(2, 5))
    tasks = layer_updates([{"q": part}, {"k": part}], "q", (4, 5))
    assert tasks[0] is part
    assert isinstance(tasks[1], LowRank)
    assert tasks[1].rank == 0
    assert torch.equal(tasks[1].dense(), torch.zeros(4, 5))
    dense = layer_updates([{"q": part}, {"q": torch.ones(4, 5)}, {}], "q", (4, 5))
    assert all(isinstance(task, torch.Tensor) for task in dense)
    assert torch.equal(
        torch.stack([d for d in dense if isinstance(d, torch.Tensor)])[2], 0 * part.dense()
    )


def write_models(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Path, list[Path], dict]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv1.weight": (4, 3, 2, 2), "ln.bias": (4,), "proj": (6, 4), "embed": (5, 4)}
    base = {n: torch.randn(*s, generator=generator).to(dtype) for n, s in shapes.items()}
    base["position_ids"] = torch.arange(5)
    files.write_tensors(folder / "base.safetensors", base)
    paths, deltas = [], {name: [] for name in shapes}
    for task in range(3):
        tuned = {
            n: (base[n] + torch.randn(*s, generator=generator) / 10).to(dtype)
            for n, s in shapes.items()
        }
        tuned["position_ids"] = base["position_ids"]
        paths.append(folder / f"task{task}.safetensors")
        files.write_tensors(paths[-1], tuned)
        for name in shapes:
            deltas[name].append(tuned[name].float() - base[name].float())
    return folder / "base.safetensors", paths, deltas


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_checkpoints_on_disk(tmp_path: Path, dtype: torch.dtype) -> None:
    base, paths, deltas = write_models(tmp_path, dtype)
    updates = [CheckpointUpdate(base, path) for path in paths]
    assert set(updates[0]) == set(deltas)
    assert len(updates[0]) == 4
    assert updates[0].shape_of("conv1.weight") == (4, 3, 2, 2)
    assert not is_low_rank(updates, "proj")
    with pytest.raises(KeyError):
        updates[0]["position_ids"]
    for task, update in enumerate(updates):
        for name, expected in deltas.items():
            assert update[name].dtype == torch.float32
            assert torch.equal(update[name], expected[task])
    on_disk = Merger(updates)
    in_memory = Merger([{n: d[t] for n, d in deltas.items()} for t in range(3)])
    for method in data_free_methods():
        merged, expected = on_disk.merge(method), in_memory.merge(method)
        assert merged.keys() == expected.keys() == deltas.keys()
        for name, value in merged.items():
            assert torch.equal(value, expected[name])
            assert value.shape == deltas[name][0].shape


def test_double_precision_checkpoints_keep_their_precision(tmp_path: Path) -> None:
    base, paths, _ = write_models(tmp_path, torch.float64)
    assert CheckpointUpdate(base, paths[0])["proj"].dtype == torch.float64


def test_checkpoint_of_another_base(tmp_path: Path) -> None:
    base, _, _ = write_models(tmp_path)
    other = tmp_path / "other.safetensors"
    files.write_tensors(other, {"proj": torch.ones(6, 5)})
    with pytest.raises(UpdateError, match=r"layer proj: .*other.* \(6, 5\), the base .* \(6, 4\)"):
        CheckpointUpdate(base, other)
    files.write_tensors(other, {"visual.proj": torch.ones(6, 4)})
    with pytest.raises(UpdateError, match=r"layer visual.proj is not in the base"):
        CheckpointUpdate(base, other)
    with pytest.raises(files.FileError, match="nowhere: no such file"):
        CheckpointUpdate(base, tmp_path / "nowhere")
    other.write_bytes(b"no safetensors")
    with pytest.raises(files.FileError, match="not a readable safetensors file"):
        CheckpointUpdate(base, other)


def test_layers_that_a_checkpoint_lacks_are_zero(tmp_path: Path) -> None:
    base, paths, deltas = write_models(tmp_path)
    part = tmp_path / "part.safetensors"
    files.write_tensors(part, {"proj": files.read_tensors(paths[0])["proj"]})
    merged = Merger(
        [CheckpointUpdate(base, paths[1]), CheckpointUpdate(base, part, partial=True)]
    ).merge("TA")
    assert torch.equal(merged["embed"], deltas["embed"][1])
    torch.testing.assert_close(merged["proj"], deltas["proj"][0] + deltas["proj"][1])


class Watched(CheckpointUpdate):
    """Counts the tensors that it gave and that are still alive."""

    def __init__(self, *paths: Path) -> None:
        super().__init__(*paths)
        self.given: list[weakref.ref[torch.Tensor]] = []

    def __getitem__(self, layer: str) -> torch.Tensor:
        tensor = super().__getitem__(layer)
        self.given.append(weakref.ref(tensor))
        return tensor

    @property
    def alive(self) -> int:
        return sum(reference() is not None for reference in self.given)


@pytest.mark.parametrize("method", data_free_methods())
def test_merging_checkpoints_reads_layer_by_layer(tmp_path: Path, method: str) -> None:
    layers = 12
    base = {f"layer{i:02}": torch.randn(8, 6) for i in range(layers)}
    files.write_tensors(tmp_path / "base", base)
    for task in range(3):
        tuned = {name: weight + torch.randn(8, 6) for name, weight in base.items()}
        files.write_tensors(tmp_path / f"{task}", tuned)
    updates = [Watched(tmp_path / "base", tmp_path / f"{task}") for task in range(3)]
    merged = Merger(updates).merge_layers(method)
    assert [len(update.given) for update in updates] == [0, 0, 0]
    for number, _ in enumerate(merged, 1):
        assert max(len(update.given) for update in updates) == number
        assert max(update.alive for update in updates) <= 1
    assert number == layers


@pytest.mark.parametrize("delta", [np.ones((2, 2)), (torch.ones(2, 1), torch.ones(1, 2))])
def test_a_layer_of_another_kind_is_named(delta) -> None:
    with pytest.raises(UpdateError, match=r"layer a is of type \w+; it must be a tensor"):
        check_updates([{"a": delta}])
