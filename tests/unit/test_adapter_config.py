"""An adapter's configuration and tensors say one thing, and ours is PEFT's reading of it."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import nn
from trap2.runtime import files
from trap2.updates.adapters import read_adapter, read_dora
from trap2.updates.stored import load_update

LAYERS = ("q_proj", "out_proj")


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(12, 8)
        self.out_proj = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.q_proj(x).relu())


def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().requires_grad_(False)


def peft_adapter(folder: Path, **settings) -> PeftModel:
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(LAYERS), **settings)
    model = get_peft_model(tower(), config)
    model.save_pretrained(str(folder / "initial"))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder / "trained"))
    return model


def merged_by_peft(model: PeftModel) -> dict[str, torch.Tensor]:
    """PEFT's ΔW on W0, in float64."""
    whole = dict(copy.deepcopy(model).double().merge_and_unload().named_parameters())
    base = dict(tower().named_parameters())
    return {f"{n}.weight": whole[f"{n}.weight"] - base[f"{n}.weight"].double() for n in LAYERS}


def assert_is(update: dict, expected: dict[str, torch.Tensor]) -> None:
    assert update.keys() == expected.keys()
    for layer, (b, a) in update.items():
        torch.testing.assert_close(b.double() @ a.double(), expected[layer], rtol=1e-5, atol=1e-6)
        assert expected[layer].norm() > 0.01


def edit(folder: Path, **changes) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal", "mica"])
def test_an_initialisation_that_leaves_the_base_is_read_as_peft_does(tmp_path, start):
    model = peft_adapter(tmp_path, init_lora_weights=start)
    assert_is(read_adapter(tmp_path / "trained"), merged_by_peft(model))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_an_initialisation_that_changes_the_base_is_refused_until_converted(tmp_path, start):
    model = peft_adapter(tmp_path, init_lora_weights=start)
    for folder in ("initial", "trained"):
        with pytest.raises(
            files.FileError, match=rf"'init_lora_weights' is '{start}'; \w+ changes"
        ):
            load_update(tmp_path / folder, "no base needed")
    expected = merged_by_peft(model)
    edit(tmp_path / "initial", init_lora_weights=True)
    with warnings.catch_warnings(action="ignore"):
        model.save_pretrained(
            str(tmp_path / "converted"),
            path_initial_model_for_weight_conversion=str(tmp_path / "initial"),
        )
    assert_is(read_adapter(tmp_path / "converted"), expected)


@pytest.mark.parametrize("start", ["corda", "lora_ga", "loftq", "PiSSA", "a later one", 3])
def test_other_initialisations_are_refused_by_name(tmp_path, start):
    peft_adapter(tmp_path)
    with pytest.raises(files.FileError, match=rf"'init_lora_weights' is '?{start}"):
        read_adapter(edit(tmp_path / "trained", init_lora_weights=start))


WRONG = {
    "r": [4.0, 0, -1, True, "4", None, 5, 10**30],
    "lora_alpha": [None, 0, -6, "6", True, [6], 10**40],
    "lora_dropout": [-0.1, 2, "0.1"],
    "use_rslora": ["true", 1],
    "use_dora": ["true", 1, True],
    "bias": ["all", "lora_only", None],
    "peft_type": ["LOHA", None, 3],
    "target_modules": [["q_proj"], ["q_proj", "out_proj", "blocks.0.k_proj"], [3], 3, []],
    "exclude_modules": [["q_proj"], [None]],
    "layers_to_transform": [0, [0, 1], "0"],
    "rank_pattern": [{"q_proj": 4}],
    "alpha_pattern": [{"q_proj": 8}],
    "modules_to_save": [["head"]],
    "fan_in_fan_out": [True],
    "layer_replication": [[[0, 1]]],
    "lora_bias": [True],
    "trainable_token_indices": [[1]],
    "megatron_config": [{"a": 1}],
    "use_qalora": [True],
    "target_parameters": [["q_proj.weight"]],
    "kasa_config": [{"a": 1}],
    "a key of a later version": [True, {"x": 1}, "yes", 3],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_every_key_of_a_configuration_is_compared_with_the_tensors(tmp_path, key, value):
    peft_adapter(tmp_path)
    folder = edit(tmp_path / "trained", **{key: value})
    with pytest.raises(files.FileError, match=f"{key}|not a plain LoRA|lacks magnitudes") as caught:
        load_update(folder, base_file(tmp_path))
    assert "adapter" in str(caught.value)


def base_file(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    weights = {n: p.to(dtype) for n, p in tower().named_parameters()}
    files.write_tensors(folder / "tower.safetensors", weights)
    return folder / "tower.safetensors"


@pytest.mark.parametrize("empty", [None, False, {}, [], ""])
def test_keys_that_are_not_set_do_not_matter(tmp_path, empty):
    peft_adapter(tmp_path)
    expected = read_adapter(tmp_path / "trained")
    found = read_adapter(edit(tmp_path / "trained", rank_pattern=empty, later=empty))
    assert all(torch.equal(found[layer][0], expected[layer][0]) for layer in expected)


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    peft_adapter(tmp_path)
    path = tmp_path / "trained" / "adapter_config.json"
    path.write_text(path.read_text("utf-8").replace("{", '{"r": 4, ', 1), "utf-8")
    with pytest.raises(
        files.FileError, match=r"adapter_config\.json: .*the key 'r' is given twice"
    ):
        read_adapter(path.parent)


def change_tensors(folder: Path, change) -> Path:
    path = folder / "adapter_model.safetensors"
    tensors = files.read_tensors(path)
    change(tensors)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return folder


FACTOR = "base_model.model.q_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("dtype", "why"),
    [
        (torch.float8_e4m3fn, "of type F8_E4M3; quantised"),
        (torch.float8_e5m2, "of type F8_E5M2; quantised"),
        (torch.int8, "of type I8; quantised"),
        (torch.uint8, "of type U8; quantised"),
        (torch.int64, "of type I64; quantised"),
        (torch.bool, "of type BOOL; quantised"),
        (torch.complex64, "of type C64; quantised"),
    ],
)
def test_quantised_factors_are_refused_by_name(tmp_path, dtype, why):
    peft_adapter(tmp_path)
    folder = change_tensors(
        tmp_path / "trained", lambda tensors: tensors.update({FACTOR: tensors[FACTOR].to(dtype)})
    )
    with pytest.raises(files.FileError, match=rf"adapter_model.*q_proj\.lora_B\.weight is {why}"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop(FACTOR), "has lora_A but no lora_B"),
        (lambda t: t.update({FACTOR: t[FACTOR][:, :3]}), r"are no \(d_out, r\)"),
        (lambda t: t.update({FACTOR: t[FACTOR][None]}), r"are no \(d_out, r\)"),
        (lambda t: t.update({FACTOR: t[FACTOR] * float("nan")}), "holds NaN or infinity"),
        (lambda t: t.update({"x.bias": torch.ones(3)}), r"unexpected tensors: \['x.bias'\]"),
        (lambda t: t.update({"position_ids": torch.arange(3)}), "unexpected tensors"),
        (
            lambda t: t.update({k.removeprefix("base_model.model."): v for k, v in t.items()}),
            "is there twice",
        ),
        (lambda t: t.clear(), "not a plain LoRA adapter"),
        (
            lambda t: t.update({"base_model.model.q_proj.lora_magnitude_vector": torch.ones(8)}),
            "unexpected tensors",
        ),
    ],
)
def test_tensors_that_are_no_pair_of_factors_are_named(tmp_path, change, why):
    peft_adapter(tmp_path)
    with pytest.raises(files.FileError, match=rf"adapter_model\.safetensors.*{why}"):
        read_adapter(change_tensors(tmp_path / "trained", change))


def test_names_without_pefts_prefix_are_read(tmp_path):
    expected = merged_by_peft(peft_adapter(tmp_path))

    def strip(tensors: dict) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("base_model.model.")] = tensors.pop(name)

    assert_is(read_adapter(change_tensors(tmp_path / "trained", strip)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dora", [False, True])
def test_half_precision_is_computed_in_float32(tmp_path, dtype, dora):
    """ΔW of the stored values, to float32's precision, however small it is beside W0."""
    peft_adapter(tmp_path, use_dora=dora)
    base = {n: p.to(dtype) for n, p in tower().named_parameters()}

    def halve(tensors: dict) -> None:
        for name, tensor in tensors.items():
            small = tensor * (1e-3 if "lora_B" in name else 1)
            tensors[name] = small.to(dtype)

    folder = change_tensors(tmp_path / "trained", halve)
    stored = files.read_tensors(folder / "adapter_model.safetensors")
    update = load_update(folder, base_file(tmp_path, dtype))
    for name in LAYERS:
        layer, module = f"{name}.weight", f"base_model.model.{name}"
        weight = base[layer].double()
        a, b = (stored[f"{module}.lora_{part}.weight"].double() for part in "AB")
        expected = 6 / 4 * b @ a
        if dora:
            moved = weight + expected
            magnitude = stored[f"{module}.lora_magnitude_vector"].double()
            expected = (magnitude / moved.norm(dim=1))[:, None] * moved - weight
        part = update[layer]
        found = part if isinstance(part, torch.Tensor) else part.B.double() @ part.A.double()
        precision = 1e-7 * weight.norm() if dora else 1e-6 * expected.norm()
        assert (found - expected).norm() < precision
        assert (part if dora else part.B).dtype == torch.float32


def test_a_dora_adapter_that_lacks_magnitudes_or_has_others_is_refused(tmp_path):
    peft_adapter(tmp_path, use_dora=True)
    weights = dict(tower().named_parameters())
    name = "base_model.model.q_proj.lora_magnitude_vector"
    changes = {
        "lacks magnitudes": lambda t: t.pop(name),
        "magnitudes without factors": lambda t: t.update({f"a.{name}": torch.ones(8)}),
        "belongs to another base": lambda t: t.update({name: torch.ones(7)}),
    }
    for number, (why, change) in enumerate(changes.items()):
        peft_adapter(tmp_path / str(number), use_dora=True)
        folder = change_tensors(tmp_path / str(number) / "trained", change)
        with pytest.raises(files.FileError, match=why):
            read_dora(folder, weights)
    weights["q_proj.weight"] = torch.ones(8, 13)
    with pytest.raises(files.FileError, match="belongs to another base"):
        read_dora(tmp_path / "trained", weights)
