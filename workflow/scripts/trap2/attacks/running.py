"""Running an attack: what it cannot work on is told apart from what is wrong with its entry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from trap2.attacks.attack import Attack
from trap2.attacks.stage import Merge, Stage
from trap2.runtime.catalogue import CatalogueError, Options
from trap2.runtime.errors import Trap2Error

# The stubs of torch.linalg lack its error.
_NOT_CONVERGED = (np.linalg.LinAlgError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


class DoesNotApply(Trap2Error):
    """What was published is nothing that this attack could work on; the message says why."""


def merges(stage: Stage, attack: Attack, options: Options) -> Iterator[Merge]:
    """The merges that an attack ends with.

    Args:
        stage: where it happens.
        attack: its entry.
        options: complete.

    Raises:
        DoesNotApply: the attack says so, or its arithmetic fails.
        CatalogueError: the entry is wrong, not what was published.
    """
    try:
        yield from attack.run(stage, options)
    except CatalogueError:
        raise
    except (Trap2Error, *_NOT_CONVERGED) as error:
        raise DoesNotApply(str(error)) from error
