"""The shapes of the JSON files that lie in raw and in prepared folders.

They are what the jobs write.  A file that is read back is what somebody wrote: its reader checks
what it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class ReceivedFile(TypedDict):
    """A file that was downloaded: its address, bytes and SHA-256."""

    url: str
    size: int
    sha256: str


class ReceivedRevision(ReceivedFile):
    """An entry of ``checksums.json``, which a revision of the source goes with."""

    revision: str


class SourceRecord(TypedDict):
    """``source.json`` of a raw folder: where its content comes from; ``files`` by name."""

    task: str
    source: str
    reader: str
    revision: str
    files: dict[str, ReceivedFile]


class SelectionRecord(TypedDict):
    """One split: indices into the part of that name."""

    part: str
    indices: list[int]


class RuleRecord(TypedDict):
    """How a task was split: the rule, and what it was given.

    ``val``, ``test`` (images of each class) and ``seed`` are those of ``per_class``;
    ``cars_train`` is of Cars alone.
    """

    task: str
    rule: str
    val: NotRequired[int]
    test: NotRequired[int]
    seed: NotRequired[int]
    cars_train: NotRequired[str]


class SplitsRecord(RuleRecord):
    """``splits.json`` of a prepared folder."""

    splits: dict[str, SelectionRecord]


class Preprocessing(TypedDict):
    """The side of the images in pixels and, of what was not painted at it, how it came to it."""

    size: int
    resize_mode: NotRequired[str]
    interpolation: NotRequired[str]
    crop: NotRequired[str]


class SplitDescription(TypedDict):
    """One split: images, images of each class, SHA-256 of its files by name."""

    count: int
    class_histogram: list[int]
    sha256: dict[str, str]


class Facts(TypedDict):
    """What a manifest says besides its arrays.

    ``source`` is ``demo`` or the raw folder's record.  The demo's have a seed, all others what
    belongs to their files: ``split`` (:class:`RuleRecord` without the task) to ``notes``.
    """

    templates: list[str]
    resolution: int
    preprocessing: Preprocessing
    source: str | SourceRecord
    seed: NotRequired[int]
    split: NotRequired[Mapping[str, object]]
    splits_sha256: NotRequired[str]
    licence: NotRequired[str]
    citation: NotRequired[str]
    notes: NotRequired[list[str]]


class TaskManifest(Facts):
    """``manifest.json`` of a prepared folder; ``class_names`` in label order."""

    task: str
    class_names: list[str]
    splits: dict[str, SplitDescription]
