"""How the tables and figures call things: the paper's names for the configuration's."""

from __future__ import annotations

from trap2.protection.catalogue import PROTECTIONS

BACKBONES = {"ViT-B-32": "ViT-B/32", "ViT-L-14": "ViT-L/14", "convnext_base_w": "ConvNeXt"}


TASKS = {
    "cars": "Cars",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "gtsrb": "GTSRB",
    "mnist": "MNIST",
    "resisc45": "RESISC",
    "aircraft": "Aircraft",
    "svhn": "SVHN",
    "sun397": "SUN397",
}


NOT_PROTECTED = {
    "zero-shot": "Zero-Shot",
    "fine-tuned": "Fine-Tuned",
    "unprotected": "Unprotected",
}


def backbone_title(name: str) -> str:
    """A backbone as the paper prints it; others by their own name."""
    return BACKBONES.get(name, name)


def task_title(name: str) -> str:
    """A task as the paper prints it; others with a capital."""
    return TASKS.get(name, name[:1].upper() + name[1:])


def protection_title(name: str) -> str:
    """A protection as the paper prints it."""
    if name in PROTECTIONS:
        return PROTECTIONS[name].title
    return NOT_PROTECTED.get(name, name)
