"""YAML as configuration: data of a bounded size, whose keys are texts, each given once.

Aliases make a file of a few lines stand for more values than any memory holds (a "YAML bomb").
They share their values as long as nobody writes them out, and a message does.  So everything is
counted as if it were written out, before anything is made of it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import yaml

BYTES = 1 << 20
DEPTH = 32
VALUES = 20_000
LETTERS = 1 << 20
ENTRIES = 1000
"""The most of a file, its nesting, its values, their texts, and one list or mapping."""

LARGEST_INTEGER = 2**63 - 1

LONGEST_NUMBER = 400
"""Letters of a number; YAML 1.1 also multiplies out 1:30:00."""

_DATE = "tag:yaml.org,2002:timestamp"
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Reads YAML as SafeLoader does, but takes no key twice and makes no dates."""

    # A date has no place in a configuration; as a text it is judged like any other.
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag != _DATE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            # A list as a key is SafeLoader's to refuse.
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.tag not in (_TEXT, _MERGE):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value[:80]} is no text for YAML. Write it in quotes, "
                    f"'{key.value[:80]}', or give it another name",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value[:80]!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(content: bytes) -> Any:
    """YAML with bounds.

    Args:
        content: of a file, UTF-8.

    Returns:
        Mappings with texts as keys, lists, texts, numbers, truth values and None.

    Raises:
        ValueError: it is not such YAML; the message says where.
    """
    if len(content) > BYTES:
        raise ValueError(f"{len(content)} bytes; a configuration may have {BYTES}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start + 1} is no UTF-8. Save it as UTF-8 in an editor, or delete it if "
            "it is none of yours"
        ) from None
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(_words(error)) from None
    check_plain(value)
    return value


def check_plain(value: Any) -> None:
    """Check what was read as configuration, by whomever: plain data of a bounded size.

    Raises:
        ValueError: it is nested too deeply, holds too much, a key that is no text, a whole number
            of more than 64 bits, or a value of another type, such as a date.
    """
    todo = [(value, "", 0)]
    values = letters = 0
    while todo:
        item, place, depth = todo.pop()
        values += 1
        letters += len(item) if isinstance(item, str) else 0
        _check_amount(depth, values, letters)
        if isinstance(item, list | dict):
            if len(item) > ENTRIES:
                raise ValueError(
                    f"{place or 'it'} has {len(item)} entries; at most {ENTRIES} are taken"
                )
            todo += [(inner, name, depth + 1) for inner, name in _inner(item, place)]
        else:
            _check_scalar(item, place or "it")


def _inner(item: Any, place: str) -> Iterator[tuple[Any, str]]:
    if isinstance(item, list):
        yield from ((inner, f"{place}[{number}]"[:200]) for number, inner in enumerate(item))
        return
    for key, inner in item.items():
        if not isinstance(key, str):
            shown = _shown(key)
            where = f" in {place}" if place else ""
            raise ValueError(
                f"the key {shown}{where} is no text but {_kind(key)}. Write it in quotes, "
                f"'{shown}', or give it another name"
            )
        yield key, f"the key {key[:80]}"
        yield inner, f"{place}.{key}"[:200].lstrip(".")


def _check_scalar(item: Any, place: str) -> None:
    if isinstance(item, str):
        if any("\ud800" <= letter <= "\udfff" for letter in item):
            raise ValueError(f"{place} holds half a letter (a lone surrogate)")
    elif item is not None and not isinstance(item, bool | int | float):
        raise ValueError(
            f"{place} is {_shown(item)}, {_kind(item)}; write it in quotes if it is meant as a text"
        )
    elif isinstance(item, int) and abs(item) > LARGEST_INTEGER:
        raise ValueError(f"{place} is a whole number of {item.bit_length()} bits; at most 63")


def _check_events(events: Iterator[Any]) -> None:
    """Count what a file holds with all aliases written out, before anything is made of it."""
    amounts: dict[str, tuple[int, int]] = {}
    opened: list[tuple[str | None, int, int]] = []
    values = letters = 0
    for event in events:
        if isinstance(event, yaml.DocumentEndEvent):
            continue
        if getattr(event, "tag", None) is not None:
            line = event.start_mark.line + 1
            raise ValueError(f"line {line}: the tag {event.tag[:80]} is not read. Remove it")
        if isinstance(event, yaml.AliasEvent):
            if any(name == event.anchor for name, _, _ in opened):
                raise ValueError(f"*{event.anchor[:80]} stands within what it stands for")
            added = amounts.get(event.anchor, (0, 0))
            values, letters = values + added[0], letters + added[1]
        elif isinstance(event, yaml.ScalarEvent):
            values, letters = values + 1, letters + len(event.value)
            if event.implicit[0] and len(event.value) > LONGEST_NUMBER:
                _check_long(event)
            if event.anchor:
                amounts[event.anchor] = (1, len(event.value))
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values, letters))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, earlier, earlier_letters = opened.pop()
            if anchor:
                amounts[anchor] = (values - earlier, letters - earlier_letters)
        _check_amount(len(opened), values, letters)


def _check_long(event: Any) -> None:
    if event.value[0] in "+-.0123456789":
        raise ValueError(
            f"line {event.start_mark.line + 1}: {event.value[:20]}… is too long for a number. "
            "Write it in quotes if it is meant as a text"
        )


def _check_amount(depth: int, values: int, letters: int) -> None:
    for found, most, what in (
        (depth, DEPTH, "levels of nesting"),
        (values, VALUES, "values, each alias counted as what it stands for"),
        (letters, LETTERS, "letters, each alias counted as what it stands for"),
    ):
        if found > most:
            raise ValueError(f"more than {most} {what}")


def _words(error: yaml.YAMLError) -> str:
    """PyYAML's words without the lines that it quotes at any length."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{f'{context}, ' if context else ''}{problem}"[:300] + where


def _kind(value: object) -> str:
    if isinstance(value, datetime.date):
        return "a date"
    words = {int: "a number", float: "a number", bool: "a truth value", type(None): "null"}
    return words.get(type(value), f"of the type {type(value).__name__}")


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float | datetime.date):
        return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))
    return type(value).__name__
