"""Checking a file's content against a schema, and filling in its defaults.

The schemas of settings come from their classes (runtime/settings.py); those beside this module are
of files for which there is no class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator, validators

from trap2.runtime import yaml_files
from trap2.runtime.errors import Trap2Error
from trap2.runtime.messages import describe, message
from trap2.runtime.reading import FileError, read_bytes
from trap2.runtime.settings import Schema, Settings, read, schema_of
from trap2.runtime.yaml_files import parse_yaml

SCHEMAS = Path(__file__).resolve().parent / "schemas"


class ConfigurationError(Trap2Error):
    """The configuration cannot be used; the message lists every problem."""


def read_yaml(path: str | Path, source: str) -> Any:
    """The content of a YAML file.

    Args:
        path: the file.
        source: its name, for messages.

    Raises:
        ConfigurationError: it cannot be read, or is not the YAML that
            :func:`trap2.runtime.yaml_files.parse_yaml` takes.
    """
    try:
        return parse_yaml(read_bytes(path, yaml_files.BYTES))
    except FileError as error:
        raise ConfigurationError(str(error)) from None
    except ValueError as error:
        raise ConfigurationError(f"{source} is not valid YAML: {error}") from None


def checked(content: Any, settings: type[Settings], source: str) -> Settings:
    """A file's content as an object of a settings class, with defaults filled in.

    Args:
        content: what was read.
        settings: the class.
        source: the file's name, for messages.

    Raises:
        ConfigurationError: a key is unknown or a value is not allowed.
    """
    _check(content, schema_of(cast("type", settings)), source)
    return read(settings, content)


def checked_by(schema: str, content: Any, source: str) -> Any:
    """A file's content with a schema's defaults filled in.

    Args:
        schema: the name of a file of ``schemas/``.
        content: what was read.
        source: the file's name, for messages.

    Raises:
        ConfigurationError: a key is unknown or a value is not allowed.
    """
    loaded = yaml.safe_load((SCHEMAS / schema).read_text("utf-8"))
    _check(content, loaded, source)
    return _with_defaults(content, loaded, loaded)


def _check(content: Any, schema: Schema, source: str) -> None:
    errors = sorted(_Validator(schema).iter_errors(content), key=lambda e: [str(p) for p in e.path])
    if errors:
        raise ConfigurationError(message(source, [describe(error) for error in errors]))


def _is_finite_number(checker: Any, value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


# .nan passes every bound, and .inf those of one side.
_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite_number),
)


def _with_defaults(value: Any, schema: Schema, root: Schema) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]] | schema
    if isinstance(value, list) and "items" in schema:
        return [_with_defaults(item, schema["items"], root) for item in value]
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for key, part in schema.get("properties", {}).items():
        if key not in filled and "default" in part:
            filled[key] = part["default"]
    extra = schema.get("additionalProperties")
    for key, item in filled.items():
        inner = schema.get("properties", {}).get(key, extra)
        if isinstance(inner, Mapping):
            filled[key] = _with_defaults(item, inner, root)
    return filled
