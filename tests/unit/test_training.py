"""Training: schedules, batches, best-validation weights, and resuming to the same bytes."""

import math
import signal

import numpy as np
import pytest
import torch
from torch import nn
from trap2.data.prepared import Split
from trap2.models.clip.classifier import Classifier
from trap2.models.scoring import has_bfloat16, mixed_precision
from trap2.protection.objective import Objective
from trap2.protection.trap2 import Trap2
from trap2.protection.trap2_variants import LayerwiseTrap2, MixedTrap2
from trap2.runtime.interruption import Interrupted
from trap2.training.settings import Optimisation
from trap2.training.trainer import Trainer, batch_indices, learning_rate
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import FullUpdate

CPU = torch.device("cpu")
SETTINGS = Optimisation(
    learning_rate=0.02,
    steps=30,
    batch_size=8,
    micro_batch_size=8,
    warmup_steps=3,
    evaluate_every=5,
    patience=10,
)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(48, 10)
        self.fc2 = nn.Linear(10, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(images.flatten(1)).tanh())


def tower() -> Tower:
    torch.manual_seed(5)
    return Tower().requires_grad_(False)


def split(n: int, seed: int) -> Split:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    images = generator.integers(0, 60, (n, 3, 4, 4)).astype(np.uint8)
    images[np.arange(n), labels] += 150
    return Split(images, labels)


def task() -> Classifier:
    head = torch.nn.functional.normalize(torch.eye(3, 6), dim=-1)
    return Classifier({"train": split(50, 1), "val": split(30, 2)}, head, 10.0, 256, CPU)


def make_trainer(
    form: str = "lora", objective: Objective | None = None, partners: dict | None = None, **changed
) -> Trainer:
    base = tower()
    if form == "lora":
        update = LoraUpdate(base, ["fc1", "fc2"], AdapterSettings(rank=2, alpha=2), seed=1)
    else:
        update = FullUpdate(base)
    settings = Optimisation(**(SETTINGS.__dict__ | changed))
    log = lambda line: None  # noqa: E731
    told = {"seed": 0, "run": "test", "log": log, "partners": partners}
    return Trainer(update, task(), settings, objective, **told)


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_learning_rate_warms_up_and_follows_a_cosine_to_zero():
    settings = Optimisation(learning_rate=1.0, steps=110, warmup_steps=10)
    rates = [learning_rate(settings, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0, abs=1e-12)


def test_batches_cover_every_epoch_once_and_depend_on_seed_and_run_only():
    drawn = np.concatenate([batch_indices(10, 4, step, 0, "run") for step in range(5)])
    assert sorted(drawn[:10]) == list(range(10))
    assert sorted(drawn[10:]) == list(range(10))
    assert not np.array_equal(drawn[:10], drawn[10:])
    again = np.concatenate([batch_indices(10, 4, step, 0, "run") for step in range(5)])
    other = np.concatenate([batch_indices(10, 4, step, 0, "other") for step in range(5)])
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, other)


def test_a_batch_larger_than_the_data_goes_on_into_the_next_epoch():
    drawn = batch_indices(3, 6, 0, 0, "run")
    assert sorted(drawn[:3]) == sorted(drawn[3:]) == [0, 1, 2]


@pytest.mark.parametrize("form", ["lora", "full"])
@pytest.mark.parametrize("trap2", [None, Trap2(0.05)])
def test_training_learns_and_repeats_its_bytes(form, trap2):
    first, second = make_trainer(form, trap2), make_trainer(form, trap2)
    before = first.score("val").accuracy
    first.fit()
    second.fit()
    assert first.score("val").accuracy > before + 20
    assert same(first.update.state(), second.update.state())


@pytest.mark.parametrize("form", ["lora", "full"])
def test_a_killed_run_resumes_to_the_same_bytes(form, tmp_path):
    whole = make_trainer(form, Trap2(0.05))
    whole.fit()
    path = tmp_path / "resume.safetensors"
    killed = make_trainer(form, Trap2(0.05))

    def kill_at_step_17() -> None:
        if killed.progress.step == 17:
            killed._save(path)
            raise KeyboardInterrupt

    step = killed._step
    killed._step = lambda: (kill_at_step_17(), step())[1]
    with pytest.raises(KeyboardInterrupt):
        killed.fit(path)
    resumed = make_trainer(form, Trap2(0.05))
    resumed.fit(path)
    assert same(whole.update.state(), resumed.update.state())
    assert whole.progress.history == resumed.progress.history


@pytest.mark.parametrize("form", ["lora", "full"])
@pytest.mark.parametrize("other", [None, "noise", "task"])
def test_a_variant_of_trap2_resumes_with_its_own_partners_alone(form, other, tmp_path):
    law = Trap2(0.05)
    objective = LayerwiseTrap2(law) if other is None else MixedTrap2(law, other)

    def trainer(objective=objective, size=0.1) -> Trainer:
        partner = {n: size * t for n, t in shapes_of(form).items()}
        return make_trainer(form, objective, partners={"other": partner})

    whole, path = trainer(), tmp_path / "resume.safetensors"
    whole.fit()
    cut = trainer()
    for _ in range(17):
        cut._step()
        cut.progress.step += 1
        if cut._validation_is_due():
            cut._validate()
            cut.update.module.train()
    cut._save(path)
    resumed = trainer()
    resumed.log = (lines := []).append
    resumed.fit(path)
    assert lines[0] == "resuming from step 17"
    assert same(whole.update.state(), resumed.update.state())
    assert not same(whole.update.state(), fitted(trainer(law)))
    if other == "task":
        with_others = trainer(size=0.2)
        with_others.log = (lines := []).append
        with_others.fit(path)
        assert "other settings; starting afresh" in lines[0]
        assert not same(whole.update.state(), with_others.update.state())


def shapes_of(form: str) -> dict[str, torch.Tensor]:
    """Ones in the shape of every weight that an update of the form changes."""
    return {n: torch.ones(tuple(d.shape)) for n, d in make_trainer(form).update.layers().items()}


def fitted(trainer: Trainer) -> dict[str, torch.Tensor]:
    trainer.fit()
    return trainer.update.state()


@pytest.mark.parametrize("form", ["lora", "full"])
def test_sigterm_writes_a_checkpoint_that_resumes_to_the_same_bytes(form, tmp_path):
    whole = make_trainer(form, Trap2(0.05))
    whole.fit()
    path = tmp_path / "resume.safetensors"
    ended = make_trainer(form, Trap2(0.05))
    step = ended._step

    def step_and_signal() -> tuple[float, float]:
        if ended.progress.step == 17:
            signal.raise_signal(signal.SIGTERM)
        return step()

    ended._step = step_and_signal
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"SIGTERM .* after step 18"):
        ended.fit(path)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = make_trainer(form, Trap2(0.05))
    resumed.log = (lines := []).append
    resumed.fit(path)
    assert lines[0] == "resuming from step 18"
    assert same(whole.update.state(), resumed.update.state())
    assert whole.progress.history == resumed.progress.history


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path):
    path = tmp_path / "resume.safetensors"
    other = make_trainer(objective=Trap2(0.5))
    other._save(path)
    plain, fresh = make_trainer(objective=Trap2(0.05)), make_trainer(objective=Trap2(0.05))
    plain.fit(path)
    fresh.fit()
    assert same(plain.update.state(), fresh.update.state())


def test_checkpoints_are_written_while_training(tmp_path):
    path = tmp_path / "resume.safetensors"
    lines = []
    trainer = make_trainer()
    trainer.log = lines.append
    trainer.fit(path, every_seconds=0.0)
    assert sum("a killed job resumes from here" in line for line in lines) == SETTINGS.steps


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    whole, parts = make_trainer("full"), make_trainer("full", micro_batch_size=3)
    whole._step()
    parts._step()
    for name, tensor in whole.update.state().items():
        torch.testing.assert_close(parts.update.state()[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_best_validation_is_kept_and_patience_ends_training():
    trainer = make_trainer(steps=1000, patience=2, evaluate_every=2, improvement=200.0)
    progress = trainer.fit()
    # Only the first validation can count as a gain of 200 points over nothing.
    assert progress.best_step == 2
    assert progress.step == 6
    assert math.isclose(progress.best_accuracy, trainer.score("val").accuracy)


@pytest.mark.parametrize(
    ("kind", "native", "expected"),
    [("cpu", True, False), ("cuda", True, True), ("cuda", False, False)],
)
def test_bfloat16_is_used_where_the_hardware_has_it(monkeypatch, kind, native, expected):
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert has_bfloat16(torch.device(kind)) is expected


def test_the_cpu_computes_in_float32():
    with mixed_precision(CPU):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("micro", [8, 4])
def test_both_terms_in_one_pass_train_what_two_passes_train(micro):
    trainers = [
        make_trainer(objective=Trap2(0.3), micro_batch_size=micro, together=together)
        for together in (False, True)
    ]
    passes = []
    for trainer in trainers:
        calls: list[int] = []
        trainer.update.module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for _ in range(3):
            trainer._step()
            trainer.progress.step += 1
        passes.append(len(calls))
    assert passes[0] == 2 * passes[1] == 6 * (8 // micro)
    apart, together = ([*t.update.state().values()] for t in trainers)
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["full", "lora"])
def test_the_tensors_stay_their_own_in_the_optimisers_one(form):
    trainer = make_trainer(form)
    before = {n: t.clone() for n, t in trainer.update.state().items()}
    reference = [nn.Parameter(p.detach().clone()) for p in trainer.update.parameters()]
    optimiser = torch.optim.AdamW(reference, lr=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0)
    for parameter in reference:
        parameter.grad = torch.randn_like(parameter)
    for own, parameter in zip(trainer.update.parameters(), reference, strict=True):
        own.grad.copy_(parameter.grad)
    for group in trainer.optimiser.param_groups:
        group.update(lr=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0)
    optimiser.step()
    trainer.optimiser.step()
    for own, parameter in zip(trainer.update.parameters(), reference, strict=True):
        assert torch.equal(own, parameter)
    changed = trainer.update.state()
    assert all(not torch.equal(changed[n], t) for n, t in before.items())
