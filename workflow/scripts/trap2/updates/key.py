"""The identity of an update.  Light, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class UpdateKey:
    """Which update: the suite's backbone, fine-tuned on a task and protected, in a release format.

    Attributes:
        suite: ``None`` for an update of somebody's own files, outside every suite.
        backbone: the base model's name.
        release_format: ``lora`` or ``full``.
        task: the task that it was fine-tuned on.
        protection: ``unprotected`` or what protects it.
    """

    suite: str | None
    backbone: str
    release_format: str
    task: str
    protection: str

    @classmethod
    def of(cls, names: Mapping[str, str], **given: str) -> UpdateKey:
        """The key in a job's wildcards; ``given`` adds or replaces names, the others are left out.

        Raises:
            KeyError: a name is missing.
        """
        every = {**names, **given}
        return cls(
            suite=every.get("suite"),
            backbone=every["backbone"],
            release_format=every["release_format"],
            task=every["task"],
            protection=every["protection"],
        )

    def folder(self, root: str | Path) -> Path:
        """Where the update is under ``root``, such as ``results``."""
        parts = (self.backbone, self.release_format, self.task, self.protection)
        return Path(root, *(() if self.suite is None else (self.suite,)), *parts)

    @property
    def run(self) -> str:
        """The name of its fine-tuning, which with the seed decides every random draw.

        It leaves the protection out: all updates of a task start from the same adapter and see
        the same batches, so that they differ by the objective alone.
        """
        return "/".join(("finetune", self.backbone, self.release_format, self.task))

    def facts(self) -> dict[str, str]:
        """The key as records hold it: no ``suite`` where there is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}
