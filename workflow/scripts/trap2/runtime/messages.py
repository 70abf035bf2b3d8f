"""Wording the problems of a configuration: key, value, what is allowed, how to mend it."""

from __future__ import annotations

import difflib
import math
import reprlib
from typing import Any

from trap2.runtime.settings import Schema

RENAMED = {
    "releases": "release_formats",
    "gradient_checkpointing": "recompute",
    "sweeps": "settings",
}
"""Keys of earlier versions' configurations by what they are called now."""


LETTERS = 200
"""The most that a message quotes of one value."""

PROBLEM_LETTERS, ALL_LETTERS = 1000, 2500
"""The most letters of one problem, and those after which no further problem is told."""

MANY = 60
"""The most names that a message offers."""


class _Short(reprlib.Repr):
    """Writes out a value's beginning: aliases make a value of any size from a line of YAML."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, LETTERS, LETTERS
        self.maxlist = self.maxtuple = self.maxdict = 12

    def repr_int(self, value: int, level: int) -> str:
        # Python writes no number of more than 4300 digits.
        bits = value.bit_length()
        return repr(value) if bits <= 128 else f"a whole number of {bits} bits"


def shown(value: object) -> str:
    """A value as Python writes it; of a long or deep one, the beginning."""
    return shortened(_Short().repr(value))


def shortened(text: object) -> str:
    """A text, or its beginning; of anything else, as :func:`shown`."""
    if not isinstance(text, str):
        return shown(text)
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} …"


def message(source: str, problems: list[str]) -> str:
    """The problems of one file, a line each."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines: list[str] = []
    for problem in problems:
        if sum(map(len, lines)) > ALL_LETTERS:
            lines.append(f"and {len(problems) - len(lines)} more.")
            break
        lines.append(_sentence(problem))
    return "\n  - ".join([f"{source} has {count}; nothing was run.", *lines])


def _sentence(problem: str) -> str:
    """A problem with one mark at its end."""
    if len(problem) > PROBLEM_LETTERS:
        return f"{problem[:PROBLEM_LETTERS]} …"
    return problem if problem.endswith((".", "?")) else f"{problem}."


def choice(key: str, value: object, allowed: list[str], what: str) -> str:
    """A value that is none of the allowed ones, with the one that was probably meant."""
    text = shortened(value)
    close = difflib.get_close_matches(text, allowed[:MANY], n=1)
    names = ", ".join(map(shortened, allowed[:MANY])) + (", …" if allowed[MANY:] else "")
    hint = f". Did you mean '{shortened(close[0])}'?" if close else ""
    return f"{shortened(key)}: '{text}' is not {what}; choose from {names}{hint}"


def describe(error: Any) -> str:
    """One schema error as a sentence: key, value, what is allowed, how to mend it."""
    key = _key(error.path)
    value, rule, allowed = error.instance, error.validator, error.validator_value
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(value) - set(known))
        where = f"{key}." if error.path else ""
        now = RENAMED.get(unknown[0])
        if now in known:
            return f"{where}{unknown[0]} is now called {now}. Rename the key"
        return choice(f"{where}{unknown[0]}", unknown[0], known, "a known key")
    if rule == "required":
        missing = [name for name in allowed if name not in value]
        where = f"{key}." if error.path else ""
        return f"{where}{missing[0]} is missing; add it{_purpose(error.schema, missing[0])}"
    told = f"{key} is {shown(value)}"
    if "propertyNames" in error.schema_path:
        told = f"{key} has the key {shown(value)}"
    if rule == "type" and isinstance(value, float) and not math.isfinite(value):
        return f"{told}; it must be a finite number"
    if rule == "type":
        return f"{told}; it must be {_type(allowed)}{_number_hint(value, allowed)}"
    if rule in ("enum", "const"):
        return choice(key, value, [str(item) for item in allowed], "allowed")
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    if rule in words:
        return f"{told}; it must be {words[rule]} {allowed}"
    if rule in ("minItems", "minProperties"):
        return f"{key} has {len(value)} entries; it needs at least {allowed}"
    if rule == "uniqueItems":
        return f"{told}; its entries must differ. Remove the repeated one"
    if rule == "pattern":
        return f"{told}; it must match {allowed}"
    if rule == "minLength":
        return f"{told}; it must not be empty"
    return f"{told}; {shortened(error.message)}"


def _key(path: Any) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return shortened(text) or "the file"


def _type(names: str | list[str]) -> str:
    words = {
        "object": "a mapping",
        "array": "a list",
        "string": "a text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "null": "null",
    }
    return " or ".join(words[name] for name in ([names] if isinstance(names, str) else names))


def _number_hint(value: object, names: str | list[str]) -> str:
    if not isinstance(value, str) or not {"number", "integer"} & {
        *([names], names)[isinstance(names, list)]
    }:
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f". YAML reads {shortened(value)} as a text here; write {number!r} without quotes"


def _purpose(schema: Schema, name: str) -> str:
    description = schema.get("properties", {}).get(name, {}).get("description", "")
    return f" ({description.rstrip('.')})" if description else ""
