"""The versions of the packages that decide a result's numbers."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = ("numpy", "torch", "torchvision", "open_clip_torch", "timm", "peft", "scikit-learn")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
