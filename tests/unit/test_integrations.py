"""TRAP² in transformers' Trainer and in a loop of one's own, on a tiny Llama."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.func import functional_call
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainingArguments,
)
from trap2.integrations.adapters import (
    AdapterError,
    adapter_layers,
    scale_of_step,
    scaled,
    trap2_backward,
)
from trap2.integrations.transformers import WARNING, Trap2, Trap2Trainer, warn_on_card

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
OBJECTIVE = Trap2(0.3, "1/sqrt(s)")
SIZES: dict[str, Any] = {
    **{"vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32},
    "initializer_range": 0.3,
}


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def adapted(**settings: Any) -> PeftModel:
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS} | settings
    model = get_peft_model(llama(), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def batch(n: int = 4) -> dict[str, torch.Tensor]:
    tokens = torch.randint(20, (n, 9), generator=torch.Generator().manual_seed(2))
    labels = tokens.clone()
    labels[:, :3] = -100
    return {"input_ids": tokens, "labels": labels}


def by_hand(model: PeftModel, s: float, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """J's gradient on the factors from dense weights: L(W0 + ΔW) − λ · w(s) · L(W0 + s·ΔW)."""
    base, factors = llama().double(), {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            factors[name] = parameter.detach().clone().requires_grad_(True)

    def loss(scale: float) -> torch.Tensor:
        weights = {}
        for name, weight in base.named_parameters():
            layer = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{layer}.lora_A.default.weight" in factors:
                a, b = (factors[f"{layer}.lora_{part}.default.weight"] for part in "AB")
                weight = weight.detach() + scale * 2 * b @ a  # α / r = 2
            weights[name] = weight
        return functional_call(base, weights, kwargs=given, args=()).loss

    total = loss(1.0) - 0.3 / math.sqrt(s) * loss(s)
    found = torch.autograd.grad(total, list(factors.values()))
    return dict(zip(factors, found, strict=True))


def test_the_gradient_is_the_objectives_in_float64():
    model = adapted().double()
    losses = trap2_backward(model, lambda: model(**batch()).loss, OBJECTIVE, 0.4)
    expected = by_hand(model, 0.4, batch())
    assert len(expected) == 16
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-12)
    with scaled(adapter_layers(model), 0.4):
        torch.testing.assert_close(losses[1], model(**batch()).loss.detach())
    torch.testing.assert_close(losses[0], model(**batch()).loss.detach())


def test_without_lambda_there_is_one_pass():
    model, calls = adapted(), []

    def loss() -> torch.Tensor:
        calls.append(1)
        return model(**batch()).loss

    _, off_nominal = trap2_backward(model, loss, Trap2(0.0), 0.4)
    assert calls == [1]
    assert off_nominal.isnan()


def arguments(folder: Path, **changed: Any) -> TrainingArguments:
    settings = {
        **{"output_dir": str(folder), "max_steps": 3, "per_device_train_batch_size": 4},
        **{"learning_rate": 1e-3, "report_to": [], "use_cpu": True, "logging_steps": 1},
        **{"save_strategy": "no", "disable_tqdm": True, "seed": 5, "lr_scheduler_type": "constant"},
    }
    return TrainingArguments(**settings | changed)


def dataset(n: int = 12) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor[i] for name, tensor in batch(n).items()} for i in range(n)]


def trained(
    folder: Path, examples: list[dict[str, torch.Tensor]] | None = None, **changed: Any
) -> Trap2Trainer:
    trainer = Trap2Trainer(
        model=adapted(lora_dropout=0.0),
        args=arguments(folder, **changed),
        train_dataset=examples or dataset(),
        trap2=OBJECTIVE,
    )
    trainer.train()
    return trainer


def factors(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def test_the_trainer_does_what_a_loop_of_ones_own_does(tmp_path):
    # A batch of all examples is the same in any order.
    plain = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.1}
    trainer = trained(tmp_path, per_device_train_batch_size=12, **plain)
    model, losses = adapted(lora_dropout=0.0), []
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        s = scale_of_step(OBJECTIVE, 5, step)
        found = trap2_backward(model, lambda: model(**batch(12)).loss, OBJECTIVE, s)
        losses.append([float(loss) for loss in found])
        optimiser.step()
        optimiser.zero_grad()
    close(trainer.model, model, 1e-6)
    assert any(not torch.equal(v, factors(adapted())[n]) for n, v in factors(model).items())
    logged = [entry for entry in trainer.state.log_history if "off_nominal_loss" in entry]
    values = [[float(entry["loss"]), entry["off_nominal_loss"]] for entry in logged]
    torch.testing.assert_close(torch.tensor(values), torch.tensor(losses), rtol=0, atol=2e-4)


def close(first: Any, second: Any, tolerance: float) -> None:
    one, other = factors(first), factors(second)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("changed", "tolerance"),
    [
        ({"gradient_checkpointing": True}, 1e-6),
        (
            {
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            1e-6,
        ),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 1e-5),
        ({"bf16": True}, 3e-3),
    ],
)
def test_checkpointing_accumulation_and_bfloat16_change_nothing(tmp_path, changed, tolerance):
    # Adam would divide a rounding by its size.
    common = {"optim": "sgd", "learning_rate": 0.1}
    plain, other = trained(tmp_path / "a", **common), trained(tmp_path / "b", **common | changed)
    close(plain.model, other.model, tolerance)
    assert any(not torch.equal(v, factors(adapted())[n]) for n, v in factors(plain.model).items())


def test_both_passes_have_the_same_dropout_masks():
    model = adapted(lora_dropout=0.5).train()
    seen = []
    module = next(m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p)
    module.register_forward_hook(lambda _m, _i, output: seen.append(output.detach() != 0))
    trap2_backward(model, lambda: model(**batch()).loss, OBJECTIVE, 0.4)
    assert torch.equal(*seen)
    assert not seen[0].all()


def test_the_scale_is_the_steps_and_of_the_law():
    drawn = [scale_of_step(OBJECTIVE, 3, step) for step in range(200)]
    assert drawn == [scale_of_step(OBJECTIVE, 3, step) for step in range(200)]
    assert drawn[0] != scale_of_step(OBJECTIVE, 4, 0)
    assert all(0.05 <= s <= 0.95 or 1.05 <= s <= 2 for s in drawn)


def test_a_trap_is_trained_and_saved_as_an_ordinary_adapter_with_a_warning(tmp_path):
    # Always the same token: all that so small a model learns so fast.
    easy = [{**example, "labels": torch.full((9,), 7)} for example in dataset()]
    trainer = trained(tmp_path, easy, max_steps=150, learning_rate=1e-2, logging_steps=50)
    trainer.save_model(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text("utf-8")
    assert card.count(WARNING) == 1
    assert card.startswith("---")
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text("utf-8"))
    assert config["lora_alpha"] == 8
    loaded = PeftModel.from_pretrained(llama(), str(tmp_path / "saved")).eval()
    layers, found = adapter_layers_of(loaded), {}
    for s in (0.5, 1.0, 1.5):
        with scaled(layers, s), torch.no_grad():
            found[s] = float(loaded(batch(12)["input_ids"], labels=torch.full((12, 9), 7)).loss)
    assert found[1.0] < 0.7 * found[0.5], found
    assert found[1.0] < 0.7 * found[1.5], found


def adapter_layers_of(model: PeftModel) -> list[Any]:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapter_layers(model)


def test_a_card_gets_its_warning_once(tmp_path):
    for _ in range(2):
        warn_on_card(tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8").count("do not rescale") == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (llama, "no adapter: wrap it with peft.get_peft_model"),
        (lambda: adapted(use_dora=True), "DoRA or another variant"),
        (lambda: adapted(modules_to_save=["lm_head"]), "belong to no LoRA factor"),
        (
            lambda: get_peft_model(
                llama(),
                IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
            ),
            "only LoRA's update can be scaled",
        ),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_the_reason(tmp_path, make, message):
    model = make()
    with pytest.raises(AdapterError, match=re.escape(message)):
        Trap2Trainer(
            model=model, args=arguments(tmp_path), train_dataset=dataset(), trap2=OBJECTIVE
        )


def test_a_merged_adapter_or_two_active_ones_are_refused():
    model = adapted()
    model.merge_adapter()
    with pytest.raises(AdapterError, match="merged into the base"):
        adapter_layers(model)
    model.unmerge_adapter()
    model.add_adapter("second", copy.deepcopy(model.peft_config["default"]))
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(AdapterError, match="2 adapters are active"):
        adapter_layers(model)


def test_the_pages_example_trains_an_adapter_in_25_lines(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text("utf-8")
    example, loop = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(example.splitlines()) <= 25
    characters = {c: i for i, c in enumerate("</s> 0123456789+=")}
    characters |= {"</s>": len(characters)}
    backend = Tokenizer(models.WordLevel(characters, unk_token=" "))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="</s>"
    )
    tokenizer.save_pretrained(tmp_path / "tiny")
    llama().save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example.replace("meta-llama/Llama-3.1-8B", "tiny"), names)
    assert WARNING in (tmp_path / "adapter" / "README.md").read_text("utf-8")
    PeftModel.from_pretrained(llama(), str(tmp_path / "adapter"))
    model = names["model"]
    before = factors(model)
    names |= {"loader": [batch().copy() for _ in range(2)], "seed": 0}
    names["optimizer"] = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1)
    exec(loop, names)
    assert any(not torch.equal(value, before[name]) for name, value in factors(model).items())
