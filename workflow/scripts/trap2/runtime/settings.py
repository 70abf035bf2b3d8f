"""Settings as frozen dataclasses: a default, its meaning and its bounds stand once, at the field.

From a class come its JSON schema (:func:`schema_of`), with which a file is checked and from which
the configuration's page and the command line's options are made, and an object of it
(:func:`read`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, TypedDict, TypeVar, Unpack

Settings = TypeVar("Settings")

_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string"}


_BOUNDS = {
    "at_least": "minimum",
    "above": "exclusiveMinimum",
    "at_most": "maximum",
    "below": "exclusiveMaximum",
    "choices": "enum",
    "pattern": "pattern",
    "shortest": "minLength",
}


class Bounds(TypedDict, total=False):
    """What each number or text of a setting may be."""

    at_least: float
    above: float
    at_most: float
    below: float
    choices: Collection[str]
    pattern: str
    shortest: int


_References = TypedDict(
    "_References", {"$schema": str, "$ref": str, "$defs": dict[str, "Schema"]}, total=False
)


class Schema(_References, total=False):
    """A JSON schema or a part of one, with those keywords that are used here."""

    title: str
    description: str
    type: str | list[str]
    default: object
    enum: list[str]
    minimum: float
    exclusiveMinimum: float
    maximum: float
    exclusiveMaximum: float
    pattern: str
    minLength: int
    items: Schema
    minItems: int
    maxItems: int
    uniqueItems: bool
    properties: dict[str, Schema]
    required: list[str]
    additionalProperties: bool | Schema
    propertyNames: Schema
    minProperties: int


def setting(
    about: str,
    default: Any = dataclasses.MISSING,
    *,
    key: str = "",
    least: int = 0,
    names: str | Mapping[str, str] = "",
    **bounds: Unpack[Bounds],
) -> Any:
    """A field of a settings class.

    Args:
        about: what it is, for the configuration's page and the command line's help.
        default: used where nothing is given, a class for an object of its defaults; the setting is
            required without one.
        key: its name in files, where that is a word of Python.
        least: the fewest entries of a list or mapping.
        names: the keys of a mapping: a pattern, or all there are with what each is.
        bounds: of each number or text in it: ``at_least``, ``above``, ``at_most``, ``below``,
            ``choices``, ``pattern``, ``shortest``.
    """
    if unknown := bounds.keys() - _BOUNDS.keys():
        raise TypeError(f"unknown bounds: {sorted(unknown)}")
    metadata = {"about": about, "key": key, "least": least, "names": names, "bounds": bounds}
    if isinstance(default, type | dict):
        factory = default if isinstance(default, type) else default.copy
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def key_of(field: dataclasses.Field[Any]) -> str:
    """A setting's name in files."""
    return field.metadata.get("key") or field.name


def bounds_of(field: dataclasses.Field[Any]) -> Bounds:
    """A setting's bounds, as :func:`setting` takes them."""
    bounds: Bounds = field.metadata["bounds"]
    return bounds


@cache
def types_of(settings: type) -> dict[str, object]:
    """The types of a class's settings, by field; that of an optional one without its None."""
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(settings).items()}


@cache
def schema_of(settings: type) -> Schema:
    """The JSON schema of a settings class; do not change it."""
    hints = types_of(settings)
    properties, required = {}, []
    for field in dataclasses.fields(settings):
        part = _schema(hints[field.name], field)
        part["description"] = field.metadata["about"]
        default = _default(field)
        if default is dataclasses.MISSING:
            required.append(key_of(field))
        elif default is not None:
            part["default"] = default
        properties[key_of(field)] = part
    schema: Schema = {"type": "object", "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema | {"properties": properties}


def read(settings: type[Settings], content: Mapping[str, object]) -> Settings:
    """An object of a settings class from content that fits its schema.

    Raises:
        Trap2Error: the class refuses values that do not fit together.
    """
    hints = types_of(typing.cast("type", settings))
    given = {
        field.name: _value(hints[field.name], content[key_of(field)])
        for field in dataclasses.fields(settings)  # type: ignore[arg-type]
        if key_of(field) in content
    }
    return settings(**given)


def plain(value: Any) -> Any:
    """Settings as a file holds them, complete; what is optional and not given is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            key_of(field): plain(item)
            for field in dataclasses.fields(value)
            if (item := getattr(value, field.name)) is not None
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return {} if dataclasses.is_dataclass(made) else plain(made)
    return plain(field.default)


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint):
        kept = [one for one in typing.get_args(hint) if one is not type(None)]
        return typing.Union[tuple(kept)]  # noqa: UP007
    return hint


def _schema(hint: Any, field: dataclasses.Field[Any]) -> Schema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    least, names = field.metadata["least"], field.metadata["names"]
    if origin is tuple:
        fixed = arguments[-1] is not Ellipsis
        items = _schema(arguments[0], field)
        ends: Schema = {"minItems": len(arguments), "maxItems": len(arguments)} if fixed else {}
        if not fixed:
            ends = {"minItems": least, "uniqueItems": True} if least else {"uniqueItems": True}
        return {"type": "array", **ends, "items": items}
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        return _mapping(arguments[1], field, least, names)
    if origin in (typing.Union, types.UnionType):
        kinds = ["object" if typing.get_origin(one) else _SCALARS[one] for one in arguments]
        return {"type": kinds}
    if dataclasses.is_dataclass(hint):
        return schema_of(typing.cast("type", hint)).copy()
    given = {_BOUNDS[name]: bound for name, bound in field.metadata["bounds"].items()}
    bounds = typing.cast("Schema", given)
    if "enum" in bounds:
        return {"enum": list(bounds["enum"])}
    return {"type": _SCALARS[hint], **bounds}


def _mapping(
    value: Any, field: dataclasses.Field[Any], least: int, names: str | Mapping[str, str]
) -> Schema:
    inner: Schema = {} if value is Any else _schema(value, field)
    if not dataclasses.is_dataclass(value):
        # An entry's own options may all be at their defaults: {RegMean: {}}.
        inner.pop("minProperties", None)
    schema: Schema = {"type": "object"}
    if least:
        schema["minProperties"] = least
    if isinstance(names, str):
        named: Schema = {"propertyNames": {"pattern": names}} if names else {}
        if inner and dataclasses.is_dataclass(value):
            inner["description"] = (value.__doc__ or "").splitlines()[0]
        others: Schema = {"additionalProperties": inner} if inner else {}
        return schema | named | others
    properties: dict[str, Schema] = {
        name: {**inner, "description": about} for name, about in names.items()
    }
    return schema | {"additionalProperties": False, "properties": properties}


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return read(typing.cast("type", hint), value)
    if origin is tuple:
        return tuple(_value(arguments[0], item) for item in value)
    if isinstance(value, Mapping) and len(arguments) == 2 and origin is not typing.Union:
        return {key: _value(arguments[1], item) for key, item in value.items()}
    return value
