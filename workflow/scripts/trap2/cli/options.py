"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trap2.runtime.settings import bounds_of, types_of

if TYPE_CHECKING:
    import torch


Function = TypeVar("Function", bound=Callable[..., Any])


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


FILE = click.Path(dir_okay=False, path_type=Path)


class Finite(click.FloatRange):
    """A number in a range; neither nan nor infinity, which pass a range's bounds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number.

        Raises:
            click.BadParameter: it is none, not finite, or out of the range.
        """
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


COEFFICIENT = Finite(-1_000_000, 1_000_000)
"""A factor of an update."""


def setting_option(settings: type, name: str) -> Callable[[Function], Function]:
    """An option for a field of a settings class, which has its meaning, bounds and default.

    Without it on the command line its value is None, and the class's default serves.
    """
    field = next(field for field in dataclasses.fields(settings) if field.name == name)
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        type=_kind(types_of(settings)[name], bounds_of(field)),
        show_default=str(field.default),
        help=field.metadata["about"],
    )


def _kind(hint: object, bounds: Mapping[str, Any]) -> click.ParamType[Any]:
    if "choices" in bounds:
        return click.Choice(bounds["choices"])
    if hint is bool:
        return click.BOOL
    low, high = (
        bounds.get("above", bounds.get("at_least")),
        bounds.get("below", bounds.get("at_most")),
    )
    kind = click.IntRange if hint is int else Finite
    return kind(low, high, min_open="above" in bounds, max_open="below" in bounds)


base_option = click.option(
    "--base",
    type=FOLDER,
    required=True,
    help="The base model's folder, as results/{suite}/{backbone}: tower.safetensors (W0), "
    "base.json (its architecture), heads/{task}.safetensors.",
)


def data_option(*, multiple: bool) -> Callable[[Function], Function]:
    """``--data``: the prepared folder of a task, or of several."""
    several = " Give it once a task." if multiple else ""
    return click.option(
        "--data",
        type=FOLDER,
        required=True,
        multiple=multiple,
        help="A task's prepared images, as results/{suite}/data/{task}/{resolution}; the task is "
        f"named after the parent folder.{several}",
    )


def output_folder_option(what: str) -> Callable[[Function], Function]:
    """``--output``: a folder for ``what``."""
    return click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        help=f"Folder for {what}.",
    )


seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every random draw."
)


logit_scale_option = click.option(
    "--logit-scale",
    type=Finite(min=0, max=10_000, min_open=True),
    default=100.0,
    show_default=True,
    help="Factor on the cosines; it changes the loss, not the accuracy.",
)


batch_size_option = click.option(
    "--evaluation-batch-size",
    "batch_size",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Images a forward pass of an evaluation.",
)


def device_options(function: Function) -> Function:
    """``--device`` and ``--threads``."""
    for option in (
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="CPU threads; another number can change the last digits.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="auto takes a GPU where there is one.",
        ),
    ):
        function = option(function)
    return function


def chosen_device(name: str, threads: int) -> torch.device:
    """Where to compute, as the options say.

    Raises:
        click.BadParameter: a GPU is asked for and none is visible.
    """
    import torch

    from trap2.runtime import device as devices

    if name == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter(
            "no GPU is visible to PyTorch here; use auto or cpu", param_hint="--device"
        )
    return devices.device(name, threads)


def updates_option(text: str) -> Callable[[Function], Function]:
    """``--update``, several times."""
    return click.option("--update", "updates", type=FOLDER, required=True, multiple=True, help=text)


def named_options(flag: str, text: str) -> Callable[[Function], Function]:
    """An option NAME=VALUE, several times, as ``options``."""
    return click.option(
        flag, "options", multiple=True, metavar="NAME=VALUE", callback=_parse_options, help=text
    )


def merge_options(function: Function) -> Function:
    """``--method``, ``--space`` and ``--option``."""
    for option in (
        named_options(
            "--option", "An option of the method, such as keep=20; docs/merging.md lists them."
        ),
        click.option(
            "--space",
            default="Full",
            show_default=True,
            help="Merge space: Full, or for LoRA adapters KnOTS or Core.",
        ),
        click.option(
            "--method",
            required=True,
            help="WA, TA, TIES, DARE, TIES+DARE, TSV or CART; docs/merging.md says what they do.",
        ),
    ):
        function = option(function)
    return function


def _parse_options(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float | str]:
    parsed: dict[str, float | str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"'{text}' is not of the form NAME=VALUE, such as keep=20")
        try:
            number = float(value)
        except ValueError:
            parsed[name] = value
            continue
        if not math.isfinite(number):
            raise click.BadParameter(f"'{text}': {value} is not a finite number")
        parsed[name] = number
    return parsed
