"""Wording the problems of a configuration: key, value, what is allowed, how to mend it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "releases": "release_formats",
    "gradient_checkpointing": "recompute",
    "sweeps": "settings",
}
"""Keys of earlier versions' configurations by what they are called now."""


def message(source: str, problems: list[str]) -> str:
    """All problems of one file, a line each."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  - {_sentence(problem)}" for problem in problems)
    return f"{source} has {count}; nothing was run.{lines}"


def _sentence(problem: str) -> str:
    """A problem with one mark at its end."""
    return problem if problem.endswith((".", "?")) else f"{problem}."


def choice(key: str, value: object, allowed: list[str], what: str) -> str:
    """A value that is none of the allowed ones, with the one that was probably meant."""
    close = difflib.get_close_matches(str(value), allowed, n=1)
    problem = f"{key}: '{value}' is not {what}; choose from {', '.join(allowed)}"
    return f"{problem}. Did you mean '{close[0]}'?" if close else problem


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
    shown = f"{key} is {value!r}"
    if rule == "type" and isinstance(value, float) and not math.isfinite(value):
        return f"{shown}; it must be a finite number"
    if rule == "type":
        return f"{shown}; it must be {_type(allowed)}{_number_hint(value, allowed)}"
    if rule in ("enum", "const"):
        return choice(key, value, [str(item) for item in allowed], "allowed")
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    if rule in words:
        return f"{shown}; it must be {words[rule]} {allowed}"
    if rule in ("minItems", "minProperties"):
        return f"{key} has {len(value)} entries; it needs at least {allowed}"
    if rule == "uniqueItems":
        return f"{key} is {value!r}; its entries must differ. Remove the repeated one"
    return f"{shown}; {error.message}"


def _key(path: Any) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


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
        return f". YAML reads {value} as a text here; write {float(value)!r} without quotes"
    except ValueError:
        return ""


def _purpose(schema: Mapping[str, Any], name: str) -> str:
    description = schema.get("properties", {}).get(name, {}).get("description", "")
    return f" ({description.rstrip('.')})" if description else ""
