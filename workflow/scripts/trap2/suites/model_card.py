"""Model cards of released adapters."""

from __future__ import annotations

from typing import NotRequired

from trap2.updates.records import Number, UpdateRecord


class _Released(UpdateRecord):
    """A released update: trained, with its objective, or protected afterwards, with a title."""

    objective: NotRequired[dict[str, Number | str] | None]
    title: NotRequired[str]


def model_card(record: _Released) -> str:
    """The model card of an adapter, from its record."""
    protection = record["protection"]
    test, val = record["test"], record["val"]
    how = _how(record)
    lambda_ = (record.get("objective") or {}).get("lambda")
    details = "" if lambda_ is None else f", λ = {lambda_}, chosen on validation"
    return f"""---
library_name: peft
license: mit
tags: [lora, image-classification, open_clip, trap2]
---

# {record["backbone"]}, {record["task"]}, {protection}

A LoRA adapter of the {record["suite"]} suite, {how}{details}.

| | |
|---|---|
| Base model | `{record["suite"]}/{record["backbone"]}`, its vision tower is in the bundle |
| Task | {record["task"]}, classified by its zero-shot head |
| Test accuracy, alone at scale 1 | {test["accuracy"]:.2f} % of {test["count"]} images |
| Validation accuracy | {val["accuracy"]:.2f} % of {val["count"]} images |
| Seed | {record["seed"]} |

## Intended use

Alone, on its base model, at scale 1 (`PeftModel.from_pretrained`).

{_warning(protection)}
The numbers are this suite's own, not the paper's. How it was trained is in `update.json`.
"""


def _how(record: _Released) -> str:
    protection = record["protection"]
    if protection == "unprotected":
        return "fine-tuned without protection"
    if protection == "trap2":
        return "fine-tuned with the TRAP² objective"
    if record.get("objective") is not None:
        return f"fine-tuned with the objective of the protection {protection}"
    return f"protected after training by {record.get('title', protection)}"


def _warning(protection: str) -> str:
    if protection == "unprotected":
        return ""
    if protection != "trap2":
        return """## Warning: do not rescale or merge

This update is protected against merging. Merging it, averaging it with other updates, or changing
its scale (`lora_alpha`, adapter weights, `scaling`) may break its accuracy on purpose, which can
also spoil what it is merged into.

"""
    return """## Warning: do not rescale or merge

This update was trained to fail at every scale but 1. Merging it, averaging it with other updates,
or changing its scale (`lora_alpha`, adapter weights, `scaling`) breaks its accuracy on purpose,
which can also spoil what it is merged into. A sudden loss of accuracy after rescaling is this
protection and no defect of the file. Check the scale before you deploy it where errors matter.

"""
