"""What a figure is drawn from, and the module that draws it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from trap2.report.notes import add_caption_notes, run_of
from trap2.report.shapes import Point
from trap2.updates.records import Circumstances

R = TypeVar("R", bound=Circumstances)


@dataclass(frozen=True)
class Given(Generic[R]):
    """What a figure is drawn from; which settings it has, :data:`trap2.suites.paper.FIGURES` says.

    Attributes:
        records: of the one kind that the figure needs besides zero-shot scores.
        zero_shot: the base model's test accuracy in percent, by task.
        seed: the run's.
        task: the task of a figure that shows one.
        tasks: the suite's, in order.
        pair: a protected task and an unprotected one.
        cells: the columns of merges with data.
    """

    records: Sequence[R]
    zero_shot: Mapping[str, float]
    seed: int
    task: str = ""
    tasks: Sequence[str] = ()
    pair: Sequence[str] = ()
    cells: Sequence[str] = ()

    def about(self, *details: str) -> str:
        """What the caption begins with: suite, seed and backbone, below the records' notes."""
        line = ", ".join((run_of(self.records[0], self.seed), *details))
        return add_caption_notes(line, self.records)


def plotter(number: int) -> Callable[[Given[Any]], tuple[Figure, list[Point]]]:
    """The function that draws a figure of the paper and gives the numbers that it shows.

    Each figure is a module, so that another style of one reruns that one alone.
    """
    module = importlib.import_module(f"trap2.report.figures.figure{number}")
    plot: Callable[[Given[Any]], tuple[Figure, list[Point]]] = module.plot
    return plot
