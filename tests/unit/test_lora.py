"""Updates under training: scaled forwards and files, against dense arithmetic and stock PEFT."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from trap2.runtime import files
from trap2.runtime.seeding import seed_of
from trap2.updates.adapters import is_dora, read_adapter, read_dora, write_adapter
from trap2.updates.delta import UpdateError
from trap2.updates.lora import LoraUpdate, attach_adapter
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import FullUpdate, Point, TrainableUpdate


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(12, 8)
        self.out_proj = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.q_proj(x).relu())


def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().requires_grad_(False)


def trained(rslora: bool = False, alpha: int = 16, dora: bool = False) -> TrainableUpdate:
    settings = AdapterSettings(rank=3, alpha=alpha, rslora=rslora, dora=dora)
    update = attach_adapter(tower(), ["q_proj", "out_proj"], settings, seed=4)
    generator = torch.Generator().manual_seed(9)
    for parameter in update.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    update.module.eval()
    return update


def dense_forward(factors: dict, s: float, x: torch.Tensor) -> torch.Tensor:
    model = tower()
    with torch.no_grad():
        for name, (b, a) in factors.items():
            model.get_parameter(name).add_(s * (b @ a))
    return model(x)


@pytest.mark.parametrize(("rslora", "alpha"), [(False, 16), (True, 16), (False, 3)])
def test_read_adapter_is_the_update_that_was_trained(tmp_path, rslora, alpha):
    update = trained(rslora, alpha)
    update.save(tmp_path)
    factors = read_adapter(tmp_path)
    assert set(factors) == {"q_proj.weight", "out_proj.weight"}
    x = torch.randn(6, 12)
    for s in (0.0, 0.3, 1.0, 2.0):
        torch.testing.assert_close(
            update.at(s)(x), dense_forward(factors, s, x), rtol=1e-5, atol=1e-5
        )
    assert torch.equal(update.at(0.0)(x), tower()(x))


def test_doras_update_is_what_peft_merges_and_scales_like_any_other(tmp_path):
    update = trained(dora=True)
    update.save(tmp_path)
    assert is_dora(tmp_path)
    base = dict(tower().named_parameters())
    delta = read_dora(tmp_path, base)
    loaded = PeftModel.from_pretrained(tower(), str(tmp_path)).eval()
    x = torch.randn(6, 12)
    torch.testing.assert_close(loaded(x), update.at(1.0)(x), rtol=0, atol=0)
    merged = dict(loaded.merge_and_unload().named_parameters())
    for name, change in delta.items():
        torch.testing.assert_close(change, merged[name] - base[name], rtol=1e-4, atol=1e-5)
        assert change.abs().max() > 0.1
    for s in (0.0, 0.3, 1.0, 2.0):
        model = tower()
        with torch.no_grad():
            for name, change in delta.items():
                model.get_parameter(name).add_(s * change)
        torch.testing.assert_close(update.at(s)(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_dora_adapter_is_refused_where_factors_are_needed(tmp_path):
    trained(dora=True).save(tmp_path)
    with pytest.raises(files.FileError, match="'use_dora' is set"):
        read_adapter(tmp_path)
    with pytest.raises(files.FileError, match="not a DoRA adapter of this model"):
        read_dora(tmp_path, {})


def test_stock_peft_loads_the_adapter(tmp_path):
    update = trained()
    update.save(tmp_path)
    loaded = PeftModel.from_pretrained(tower(), str(tmp_path)).eval()
    x = torch.randn(6, 12)
    torch.testing.assert_close(loaded(x), update.at(1.0)(x), rtol=0, atol=0)


def test_an_adapter_that_peft_wrote_is_read(tmp_path):
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(tower(), config)
    model.save_pretrained(str(tmp_path))
    factors = read_adapter(tmp_path)
    x = torch.randn(4, 12)
    torch.testing.assert_close(dense_forward(factors, 1.0, x), model.eval()(x))


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        trained().save(tmp_path / folder)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_written_factors_come_back_and_stock_peft_loads_them(tmp_path):
    factors = {
        "q_proj.weight": (torch.randn(8, 3), torch.randn(3, 12)),
        "out_proj.weight": (torch.randn(5, 3), torch.randn(3, 8)),
    }
    write_adapter(tmp_path, factors)
    found = read_adapter(tmp_path)
    assert found.keys() == factors.keys()
    for layer, (b, a) in factors.items():
        assert torch.equal(found[layer][0], b)
        assert torch.equal(found[layer][1], a)
    x = torch.randn(6, 12)
    loaded = PeftModel.from_pretrained(tower(), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(x), dense_forward(factors, 1.0, x), rtol=1e-5, atol=1e-5)


def test_factors_of_several_ranks_are_no_adapter(tmp_path):
    factors = {"a.weight": (torch.ones(4, 2), torch.ones(2, 4))}
    factors["b.weight"] = (torch.ones(4, 1), torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"one rank of at least 1; these have \[1, 2\]"):
        write_adapter(tmp_path, factors)


def test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed_alone():
    x = torch.randn(3, 12)
    settings = AdapterSettings()
    torch.manual_seed(1)
    first = LoraUpdate(tower(), ["q_proj"], settings, seed=4)
    torch.manual_seed(2)
    second = LoraUpdate(tower(), ["q_proj"], settings, seed=4)
    assert torch.equal(first.module.eval()(x), tower()(x))
    for name, tensor in first.state().items():
        assert torch.equal(tensor, second.state()[name])


def test_full_update_scales_the_difference_and_its_gradient():
    """features(s) is the tower at W0 + s(W − W0), and dL/dW carries the factor s."""
    update = FullUpdate(tower())
    base = {name: tensor.clone() for name, tensor in update.state().items()}
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.add_(0.1)
    x = torch.randn(5, 12)
    reference = tower()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.copy_(base[name] + 0.4 * (update.state()[name] - base[name]))
    for parameter in reference.parameters():
        parameter.requires_grad_(True)
    torch.testing.assert_close(update.at(0.4)(x), reference(x))
    update.at(0.4)(x).square().sum().backward()
    reference(x).square().sum().backward()
    for parameter, expected in zip(update.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 0.4 * expected.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "'use_dora' is set"),
        ({"bias": "all"}, "'bias' is 'all'"),
        ({"r": None}, "not a LoRA configuration"),
    ],
)
def test_other_kinds_of_adapters_are_refused(tmp_path, change, message):
    trained().save(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text("utf-8")) | change
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}), "utf-8")
    with pytest.raises(files.FileError, match=message):
        read_adapter(tmp_path)


def test_a_damaged_adapter_is_named(tmp_path):
    trained().save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(files.FileError, match=r"adapter_model\.safetensors: not a readable"):
        read_adapter(tmp_path)


def peft_twin(settings: AdapterSettings, targets: list[str]) -> nn.Module:
    """The same fresh adapter as PEFT attaches it."""
    form = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    config = LoraConfig(**form, use_rslora=settings.rslora, target_modules=targets)
    base = tower()
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(4, "lora initialisation"))
        return get_peft_model(base, config)


@pytest.mark.parametrize("rslora", [False, True])
def test_initial_factors_masks_outputs_and_gradients_are_pefts_to_the_bit(rslora):
    settings = AdapterSettings(rank=3, alpha=6, dropout=0.4, rslora=rslora)
    targets = ["q_proj", "out_proj"]
    ours, theirs = LoraUpdate(tower(), targets, settings, seed=4), peft_twin(settings, targets)
    named = {n.replace(".default", ""): p for n, p in theirs.named_parameters() if p.requires_grad}
    assert {f"base_model.model.{n}" for n in ours.named_parameters()} == set(named)
    for name, tensor in ours.state().items():
        assert torch.equal(tensor, named[name]), name
        named[name].data.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)))
        tensor.copy_(named[name].detach())
    ours.module.train()
    theirs.train()
    x, outputs = torch.randn(6, 12), []
    for model in (ours.at(1.0), theirs):
        torch.manual_seed(3)
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], ours.at(0.0)(x))
    for name, parameter in ours.named_parameters().items():
        assert torch.equal(parameter.grad, named[f"base_model.model.{name}"].grad), name


def test_peft_reads_the_configuration_as_its_own(tmp_path):
    settings = AdapterSettings(rank=3, alpha=6, dropout=0.4, rslora=True)
    LoraUpdate(tower(), ["q_proj"], settings, seed=4).save(tmp_path)
    found = LoraConfig.from_pretrained(str(tmp_path)).to_dict()
    own = LoraConfig(
        r=3, lora_alpha=6, lora_dropout=0.4, use_rslora=True, target_modules=["q_proj"], bias="none"
    )
    expected = own.to_dict() | {"inference_mode": True}
    del found["peft_version"], expected["peft_version"]
    assert found == expected


def gradients_of(update: TrainableUpdate) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in update.named_parameters().items()}


@pytest.mark.parametrize("where", [0.3, Point({"q_proj.weight": 0.2, "out_proj.weight": 1.7})])
def test_one_pass_at_two_scales_is_two_passes_on_the_same_masks(where):
    settings = AdapterSettings(rank=3, alpha=6, dropout=0.4)
    update = LoraUpdate(tower().double(), ["q_proj", "out_proj"], settings, seed=4)
    for number, parameter in enumerate(update.parameters()):
        generator = torch.Generator().manual_seed(number)
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    update.module.train()
    x = torch.randn(2, 6, 12, dtype=torch.float64)  # tokens, as in a transformer
    found = []
    for together in (True, False):
        update.module.zero_grad()
        torch.manual_seed(3)
        with update.same_masks():
            if together:
                nominal, off_nominal = update.pair(where)(x)
            else:
                nominal, off_nominal = update.at(1.0)(x), update.at(where)(x)
        (nominal.square().mean() - 0.3 * off_nominal.square().mean()).backward()
        found.append((nominal.detach(), off_nominal.detach(), gradients_of(update)))
    assert not torch.allclose(found[0][0], found[0][1])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-13)


def test_what_shares_no_weights_shares_no_pass():
    point = Point(
        {"q_proj.weight": 1.0, "out_proj.weight": 1.0}, {"q_proj.weight": torch.ones(8, 12)}
    )
    assert trained().pair(point) is None
    assert trained(dora=True).pair(0.3) is None
    assert FullUpdate(tower()).pair(0.3) is None


def test_masks_are_kept_while_asked_for_and_drawn_anew_afterwards():
    update = LoraUpdate(tower(), ["q_proj"], AdapterSettings(rank=3, dropout=0.5), seed=4)
    update.load_state({name: torch.ones_like(t) for name, t in update.state().items()})
    update.module.train()
    x = torch.randn(6, 12)
    with update.same_masks():
        first, second = update.at(1.0)(x), update.at(1.0)(x)
    assert torch.equal(first, second)
    with update.same_masks():
        assert not torch.equal(update.at(1.0)(x), first)
    assert not torch.equal(update.at(1.0)(x), update.at(1.0)(x))


def test_a_target_that_is_no_linear_layer_is_refused():
    for target in ("relu", "q_projection", ""):
        with pytest.raises(UpdateError, match="no linear layers of this model"):
            LoraUpdate(tower(), ["q_proj", target], AdapterSettings(), seed=4)
    with pytest.raises(UpdateError, match="attach_adapter"):
        LoraUpdate(tower(), ["q_proj"], AdapterSettings(dora=True), seed=4)
