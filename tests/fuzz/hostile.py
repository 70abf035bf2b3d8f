"""Hostile values, tensors and files, drawn by the fuzz's generators."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 5, 16, 10**30, 1.5, -0.5, 1e-300, 1e300, "", "4", "none",
    "all", "LORA", "LOHA", "pissa", "pissa_niter_4", "olora", "gaussian", "eva", "loftq", "corda",
    "q_proj", "(a+)+$", "all-linear", [], [1], ["q_proj"], ["q_proj", "out_proj"], [None], {},
    {"q_proj": 2}, {"": {"": {}}}, "\u0000", "é" * 50, "x" * 100_000, [[[]]], ["../../etc/passwd"],
]  # fmt: skip

TYPES = [
    torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.complex64,
]  # fmt: skip


def damage_tensors(tensors: dict[str, torch.Tensor], random_: random.Random) -> None:
    """One thing wrong, or only unusual, with some tensors, in place."""
    name = random_.choice(sorted(tensors))
    tensor = tensors[name]
    if not tensor.numel() or not tensor.ndim:
        return
    other = random_.choice(
        [
            lambda: tensor.to(random_.choice(TYPES)),
            lambda: tensor.to(random_.choice(TYPES)),
            lambda: tensor.narrow(-1, 0, random_.randrange(tensor.shape[-1])),
            lambda: tensor.narrow(0, 0, random_.randrange(tensor.shape[0])),
            lambda: tensor.mT if tensor.ndim == 2 else tensor[None],
            lambda: tensor[None],
            lambda: tensor.reshape(-1),
            lambda: tensor.float() * random_.choice([0.0, 1e-30, 1e30, float("nan"), float("inf")]),
            lambda: torch.zeros(0),
            lambda: torch.tensor(1.0),
            None,
        ]
    )
    if other is not None:
        tensors[name] = other()
        return
    new = random_.choice(
        ["", "x", name.upper(), f"{name}.weight", f"module.{name}", f"visual.{name}", "a." * 300,
         name.removeprefix("base_model.model."), "position_ids", "\u0000", "é.weight"]
    )  # fmt: skip
    if random_.random() < 0.5:
        tensors[new] = tensors.pop(name)
    else:
        tensors[new] = tensors[name].clone()


def damage_file(path: Path, random_: random.Random) -> None:
    """One thing wrong with a safetensors or JSON file as such."""
    content = path.read_bytes()
    choices: list[Callable[[], Any]] = [
        lambda: path.write_bytes(content[: random_.randrange(len(content))]),
        lambda: path.write_bytes(content + bytes(random_.randrange(1, 20))),
        lambda: path.write_bytes(_flipped(content, random_)),
        lambda: path.write_bytes(random_.randbytes(random_.randrange(200))),
        lambda: path.write_bytes(
            struct.pack("<Q", random_.choice([0, 1 << 26, 1 << 63])) + content
        ),
        lambda: path.write_bytes(b"[" * 200_000),
        lambda: path.write_bytes(b'{"r": 1, "r": 2}'),
        lambda: path.write_bytes(b"\xff\xfe" + content),
        lambda: path.write_bytes(_many_tensors()),
        lambda: _sparse(path),
        lambda: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda: (path.unlink(), path.symlink_to(path)),
        lambda: (path.unlink(), os.mkfifo(path)),
        lambda: (path.unlink(), path.mkdir()),
        lambda: path.unlink(),
    ]
    random_.choice(choices)()


def _flipped(content: bytes, random_: random.Random) -> bytes:
    changed = bytearray(content)
    changed[random_.randrange(len(changed))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _many_tensors() -> bytes:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{i}.lora_A.weight": entry for i in range(20_000)}).encode()
    return struct.pack("<Q", len(header)) + header


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 100))
        file.truncate(1 << 40)


def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors as safetensors without this project's own checks."""
    path.write_bytes(save({name: t.clone().contiguous() for name, t in tensors.items()}))
