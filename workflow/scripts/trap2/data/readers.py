"""The readers by name: each knows one form in which a dataset's files lie on the disk.

Free of heavy imports, as every catalogue; a reader imports what it reads with when it runs
(:mod:`trap2.data.forms`).  Adding one is one function and one entry, in a plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trap2.runtime.catalogue import Catalogue, Entry

if TYPE_CHECKING:
    from trap2.data.images import RawDataset


@dataclass(frozen=True, kw_only=True)
class Reader(Entry):
    """A reader of one form.

    Attributes:
        read: from the ``content`` folder of a download to the original parts in their original
            order; raises FileError.
    """

    read: Callable[[Path], RawDataset]


READERS: Catalogue[Reader] = Catalogue("reader", names="[a-z0-9][a-z0-9_-]*")
"""A source of a dataset's row names its reader."""


def _cars_devkit(content: Path) -> RawDataset:
    from trap2.data.forms import read_cars_devkit

    return read_cars_devkit(content)


def _cars_parquet(content: Path) -> RawDataset:
    from trap2.data.parquet import read_cars

    return read_cars(content)


def _dtd(content: Path) -> RawDataset:
    from trap2.data.forms import read_dtd

    return read_dtd(content)


def _eurosat(content: Path) -> RawDataset:
    from trap2.data.forms import read_eurosat

    return read_eurosat(content)


def _gtsrb(content: Path) -> RawDataset:
    from trap2.data.forms import read_gtsrb

    return read_gtsrb(content)


def _mnist(content: Path) -> RawDataset:
    from trap2.data.forms import read_mnist

    return read_mnist(content)


def _resisc45(content: Path) -> RawDataset:
    from trap2.data.forms import read_resisc45

    return read_resisc45(content)


def _aircraft(content: Path) -> RawDataset:
    from trap2.data.forms import read_aircraft

    return read_aircraft(content)


def _svhn(content: Path) -> RawDataset:
    from trap2.data.forms import read_svhn

    return read_svhn(content)


def _sun397(content: Path) -> RawDataset:
    from trap2.data.forms import read_sun397

    return read_sun397(content)


READERS.add(Reader(name="cars_devkit", paper="Krause et al., 2013", read=_cars_devkit))
READERS.add(Reader(name="cars_parquet", paper="Krause et al., 2013", read=_cars_parquet))
READERS.add(Reader(name="dtd", paper="Cimpoi et al., 2014", read=_dtd))
READERS.add(Reader(name="eurosat", paper="Helber et al., 2019", read=_eurosat))
READERS.add(Reader(name="gtsrb", paper="Stallkamp et al., 2011", read=_gtsrb))
READERS.add(Reader(name="mnist", paper="LeCun et al., 1998", read=_mnist))
READERS.add(Reader(name="resisc45", paper="Cheng et al., 2017", read=_resisc45))
READERS.add(Reader(name="aircraft", paper="Maji et al., 2013", read=_aircraft))
READERS.add(Reader(name="svhn", paper="Netzer et al., 2011", read=_svhn))
READERS.add(Reader(name="sun397", paper="Xiao et al., 2010", read=_sun397))
