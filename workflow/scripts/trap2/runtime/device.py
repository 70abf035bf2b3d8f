"""Where a job computes, and how repeatably."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device(name: str, threads: int) -> torch.device:
    """Choose where the job computes and make its arithmetic repeatable.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``, as configured.
        threads: CPU threads for torch; the rules pass a fixed number, so that results do not
            depend on how many cores the machine has.

    Raises:
        RuntimeError: ``cuda`` is configured and no GPU is visible.
    """
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(
            "the configuration says device: cuda, but this job sees no GPU. Check the job's "
            "resources (CUDA_VISIBLE_DEVICES), or set device: auto or cpu in config/config.yaml"
        )
    return torch.device("cuda")
