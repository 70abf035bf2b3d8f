"""The catalogue of datasets: where each comes from, how it is split, what its classes are called.

One row a task, in ``datasets.yaml`` beside this module.  Adding a dataset is one row and, when its
files are in a form that no reader knows, one reader (:mod:`trap2.data.readers`).  A file of one's
own adds rows of the same form, or replaces single ones, for instance by rows with other addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from trap2.runtime import files
from trap2.runtime.messages import shortened
from trap2.runtime.schema import ConfigurationError, read_yaml

CATALOGUE = Path(__file__).with_name("datasets.yaml")


NAME_LIMIT = 200


SPLIT_RULES = ("idx", "official", "per_class")


class SplitRule(TypedDict):
    """How a dataset is split (:mod:`trap2.data.splits`).

    ``val`` and ``test`` are images of each class, of the rule ``per_class``;
    ``knots_trains_on_test`` stands at Cars.
    """

    rule: Literal["idx", "official", "per_class"]
    val: NotRequired[int]
    test: NotRequired[int]
    knots_trains_on_test: NotRequired[bool]


class FileRow(TypedDict):
    """A file of a source; see :class:`RemoteFile`."""

    name: str
    url: str
    checksum: NotRequired[str]
    size: NotRequired[int | None]
    unpack: NotRequired[bool]


class SourceRow(TypedDict):
    """A source of a row; see :class:`Source`."""

    reader: str
    files: list[FileRow]
    revision: NotRequired[str]


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        name: its name in the raw folder; may hold a ``*`` when ``url`` does.
        url: ``http(s)://…``, or ``hub://owner/name/path`` for a file of a dataset repository.
        checksum: ``md5:…`` or ``sha256:…``; empty when it is not known in advance.
        size: bytes, or None when not known in advance.
        unpack: an archive (zip or tar) whose content the reader wants.
    """

    name: str
    url: str
    checksum: str = ""
    size: int | None = None
    unpack: bool = False


@dataclass(frozen=True)
class Source:
    """One place that offers a dataset, and the reader of its form."""

    name: str
    reader: str
    files: tuple[RemoteFile, ...]
    revision: str = ""


@dataclass(frozen=True)
class Dataset:
    """One row of the catalogue.

    Attributes:
        sources: by name; the first is the default.
        split: ``{"rule": "idx" | "official" | "per_class", …}``; see :mod:`trap2.data.splits`.
        classes: how many classes the files must have.
        counts: images in train, val and test that the split must give.
        class_names: names by label, or by the dataset's own name of the class; None when the
            dataset's own names serve.
        templates: prompts with one ``{}`` for the class name.
        label_start: part → its first labels in the original order, where known.
    """

    task: str
    title: str
    homepage: str
    licence: str
    citation: str
    sources: Mapping[str, Source]
    split: SplitRule
    classes: int
    counts: Mapping[str, int]
    templates: tuple[str, ...]
    class_names: Sequence[str] | Mapping[str, str] | None = None
    label_start: Mapping[str, Sequence[int]] | None = None

    def source(self, name: str | None = None) -> Source:
        """The source of that name, or the default one.

        Raises:
            ValueError: the dataset has no such source.
        """
        if name is None:
            return next(iter(self.sources.values()))
        if name not in self.sources:
            raise files.FileError(
                f"{self.task}: no source '{name}'; the catalogue has {', '.join(self.sources)}"
            )
        return self.sources[name]

    def display_names(self, own_names: Sequence[str]) -> list[str]:
        """The class names that prompts use, in label order.

        Args:
            own_names: the names that the files give, in label order.

        Raises:
            ValueError: a class that the row's table does not know, or a list of another length.
        """
        if self.class_names is None:
            return [name.replace("_", " ") for name in own_names]
        if isinstance(self.class_names, Mapping):
            unknown = sorted(set(own_names) - set(self.class_names))
            if unknown:
                raise files.FileError(
                    f"{self.task}: the files have the classes {unknown}, which the catalogue's "
                    f"class_names does not name; it names {sorted(self.class_names)}"
                )
            return [self.class_names[name] for name in own_names]
        if len(self.class_names) != len(own_names):
            raise files.FileError(
                f"{self.task}: the catalogue names {len(self.class_names)} classes, the files have "
                f"{len(own_names)}"
            )
        return list(self.class_names)


def load_catalogue(path: str | Path | None = None) -> dict[str, Dataset]:
    """The datasets that are known, by task; see :func:`load_rows`.

    Raises:
        FileError: the file is missing or is not YAML, or a name is ambiguous.
        ValueError: a row lacks an entry, has one too many or a value that is not allowed; the
            message names the row.
    """
    rows = load_rows(path)
    return {task: parse_row(task, row, str(path or CATALOGUE)) for task, row in rows.items()}


def load_rows(path: str | Path | None = None) -> dict[str, Mapping[str, object]]:
    """The rows that come with the library, and those of a file of one's own, by task.

    Args:
        path: the file.  A row of a name that the library has takes the place of the library's row
            as a whole; others are added.

    Raises:
        FileError: the file is missing, is not YAML or holds no table, or two names differ in
            capitals alone.
    """
    rows = _rows(CATALOGUE)
    if path is None:
        return rows
    own = _rows(Path(path))
    known = {task.casefold(): task for task in rows}
    for task in own:
        twin = known.setdefault(task.casefold(), task)
        if twin != task:
            raise files.FileError(
                f"{path}: {shortened(task)} and the row {shortened(twin)} differ in capitals alone "
                f"and are one folder on some systems. Write {shortened(twin)} to replace that row, "
                "or choose another name"
            )
    return rows | own


def _rows(path: Path) -> dict[str, Mapping[str, object]]:
    try:
        rows = read_yaml(path, str(path))
    except ConfigurationError as error:
        raise files.FileError(str(error)) from None
    if not isinstance(rows, dict):
        raise files.FileError(f"{path}: expected a table of datasets by task")
    return rows


def parse_row(task: str, row: Mapping[str, object], where: str = "catalogue") -> Dataset:
    """A dataset from its row.

    Args:
        task: its name.
        row: as in :func:`load_rows`.
        where: whose row it is, for messages.

    Raises:
        ValueError: the row lacks an entry, has one too many or a value that is not allowed.
    """
    where = f"{where}: {task}"
    try:
        entries: dict[str, Any] = dict(row)
        sources = {
            name: _source(name, source, f"{where}.sources.{name}")
            for name, source in entries.pop("sources").items()
        }
        templates = tuple(entries.pop("templates"))
        dataset = Dataset(task=task, sources=sources, templates=templates, **entries)
    except (TypeError, KeyError, AttributeError) as error:
        raise files.FileError(f"{where}: {error}") from None
    if not sources:
        raise files.FileError(f"{where}: no source")
    if dataset.split.get("rule") not in SPLIT_RULES:
        raise files.FileError(
            f"{where}: split rule {dataset.split.get('rule')!r}; allowed: {', '.join(SPLIT_RULES)}"
        )
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise files.FileError(f"{where}: each template needs exactly one {{}}; found {wrong}")
    if sorted(dataset.counts) != ["test", "train", "val"]:
        raise files.FileError(
            f"{where}: counts needs train, val and test; found {list(dataset.counts)}"
        )
    return dataset


def _source(name: str, row: SourceRow, where: str) -> Source:
    remote = tuple(RemoteFile(**entry) for entry in row["files"])
    for file in remote:
        _check_file(file, f"{where}.{file.name}")
    return Source(name, row["reader"], remote, row.get("revision", ""))


def check_name(name: str, where: str) -> None:
    """Refuse what is no plain name of a file.

    Raises:
        FileError: with the name.
    """
    plain = isinstance(name, str) and name.isprintable() and len(name.encode()) <= NAME_LIMIT
    if not plain or "/" in name or "\\" in name or name in ("", ".", ".."):
        raise files.FileError(f"{where}: {str(name)[:60]!r} is not a plain file name")


def _check_file(file: RemoteFile, where: str) -> None:
    check_name(file.name, where)
    if not isinstance(file.url, str) or file.url.partition("://")[0] not in (
        "http",
        "https",
        "hub",
    ):
        raise files.FileError(
            f"{where}: url {file.url!r}; allowed are http://, https:// and hub://"
        )
    lengths = {"md5": 32, "sha256": 64}
    algorithm, _, digest = file.checksum.partition(":")
    if file.checksum and len(digest) != lengths.get(algorithm):
        raise files.FileError(
            f"{where}: checksum {file.checksum!r}; allowed are md5:<32 hex digits> and "
            "sha256:<64 hex digits>"
        )
    if ("*" in file.name) != ("*" in file.url):
        raise files.FileError(f"{where}: name and url must both have a '*', or neither")
