"""Reading and checking the configuration, before any job runs.

Every problem is reported with its key, its value, what is allowed and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


class ConfigurationError(ValueError):
    """The configuration cannot be used; the message lists every problem."""


def check_config(config: Mapping[str, Any], suites: Path) -> dict[str, Any]:
    """The workflow's configuration with defaults filled in.

    Args:
        config: what ``config/config.yaml`` and the command line say.
        suites: the folder of the suites' files.

    Raises:
        ConfigurationError: a key is unknown or a value is not allowed.
    """
    checked = _checked(config, "config.schema.yaml", "config/config.yaml")
    available = sorted(path.stem for path in suites.glob("*.yaml"))
    if checked["suite"] not in available:
        problem = _choice("suite", checked["suite"], available, "a file of config/suites")
        raise ConfigurationError(_message("config/config.yaml", [problem]))
    return checked


def load_suite(name: str, suites: Path) -> dict[str, Any]:
    """One suite with defaults filled in.

    Raises:
        ConfigurationError: there is no such suite, its file is not YAML, a key is unknown, a
            value is not allowed, or two values do not fit together.
    """
    path = suites / f"{name}.yaml"
    source = f"config/suites/{name}.yaml"
    if not path.exists():
        available = sorted(p.stem for p in suites.glob("*.yaml"))
        problem = _choice("suite", name, available, "a file of config/suites")
        raise ConfigurationError(_message("config/config.yaml", [problem]))
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source} is not valid YAML: {error}") from None
    suite = _checked(content, "suite.schema.yaml", source)
    problems = list(_suite_problems(suite))
    if problems:
        raise ConfigurationError(_message(source, problems))
    return suite


def check_merging(name: str, suite: Mapping[str, Any]) -> None:
    """Check the merging methods, their spaces and options against the registry of methods.

    Apart from :func:`load_suite` because the registry lives beside the operators, whose import
    takes seconds: the workflow asks once, not in every job.

    Raises:
        ConfigurationError: an unknown method, space or option, or an option out of its range.
    """
    from trap2.merging import METHODS, check_options

    merging = suite["merging"]
    problems = []
    for method, spaces in merging["methods"].items():
        if method not in METHODS:
            problems.append(_choice("merging.methods", method, sorted(METHODS), "a merging method"))
            continue
        for space in spaces:
            if space not in METHODS[method].spaces:
                allowed = list(METHODS[method].spaces)
                problems.append(
                    _choice(f"merging.methods.{method}", space, allowed, "a merge space")
                )
    for method, options in merging["options"].items():
        if method not in merging["methods"]:
            known = sorted(merging["methods"])
            problems.append(_choice("merging.options", method, known, "a method of this suite"))
        elif method in METHODS:
            try:
                check_options(method, options)
            except ValueError as error:
                problems.append(f"merging.options.{method}: {error}")
    if problems:
        raise ConfigurationError(_message(f"config/suites/{name}.yaml", problems))


def lambda_text(value: float) -> str:
    """λ as it stands in paths: the shortest decimal that reads back as the same number."""
    return repr(float(value))


def lambdas_of(suite: Mapping[str, Any], release: str, task: str) -> list[str]:
    """The λ grid of one task, as path texts."""
    settings = suite["releases"][release]
    grid = settings["task_lambdas"].get(task, settings["lambdas"])
    return [lambda_text(value) for value in grid]


def _checked(content: Any, schema_name: str, source: str) -> dict[str, Any]:
    schema = yaml.safe_load((SCHEMAS / schema_name).read_text("utf-8"))
    validator = Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(content), key=lambda e: [str(p) for p in e.path])
    if errors:
        raise ConfigurationError(_message(source, [_describe(error) for error in errors]))
    return _with_defaults(content, schema, schema)


def _with_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]] | schema
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for key, part in schema.get("properties", {}).items():
        if key not in filled and "default" in part:
            filled[key] = part["default"]
    extra = schema.get("additionalProperties")
    for key, item in filled.items():
        part = schema.get("properties", {}).get(key, extra)
        if isinstance(part, Mapping):
            filled[key] = _with_defaults(item, part, root)
    return filled


def _suite_problems(suite: Mapping[str, Any]) -> Iterator[str]:
    yield from _data_problems(suite)
    yield from _release_problems(suite)
    trap2 = suite["trap2"]
    if not trap2["s_min"] < 1 - trap2["delta"]:
        yield (
            f"trap2.s_min is {trap2['s_min']}; it must be below 1 - trap2.delta = "
            f"{1 - trap2['delta']:g}. Lower trap2.s_min or trap2.delta"
        )
    if not trap2["s_max"] > 1 + trap2["delta"]:
        yield (
            f"trap2.s_max is {trap2['s_max']}; it must exceed 1 + trap2.delta = "
            f"{1 + trap2['delta']:g}. Raise trap2.s_max or lower trap2.delta"
        )
    search = suite["merging"]["search"]
    if search["step"] > search["maximum"]:
        yield (
            f"merging.search.step is {search['step']}; it must not exceed "
            f"merging.search.maximum = {search['maximum']}"
        )
    figures = suite["figures"]
    if figures["task"] not in suite["tasks"]:
        yield _choice("figures.task", figures["task"], suite["tasks"], "a task of this suite")
    if figures["backbone"] not in suite["backbones"]:
        known = list(suite["backbones"])
        yield _choice("figures.backbone", figures["backbone"], known, "a backbone of this suite")


def _data_problems(suite: Mapping[str, Any]) -> Iterator[str]:
    from trap2.data.demo import TASKS

    for task in suite["tasks"]:
        if task not in TASKS:
            yield _choice("tasks", task, sorted(TASKS), "a task of the demo")
    for key in ("train", "val", "test"):
        if key not in suite["data"]:
            yield f"data.{key} is missing; give the number of images a task"
    for name, backbone in suite["backbones"].items():
        if "pretraining" not in backbone:
            yield f"backbones.{name}.pretraining is missing; give its images and steps"


def _release_problems(suite: Mapping[str, Any]) -> Iterator[str]:
    for release, settings in suite["releases"].items():
        where = f"releases.{release}"
        for backbone in settings["backbones"]:
            if backbone not in suite["backbones"]:
                known = list(suite["backbones"])
                yield _choice(f"{where}.backbones", backbone, known, "a backbone of this suite")
        for task in settings["task_lambdas"]:
            if task not in suite["tasks"]:
                yield _choice(f"{where}.task_lambdas", task, suite["tasks"], "a task of this suite")
        batch = settings["optimisation"].get("batch_size", 32)
        if settings["optimisation"].get("micro_batch_size", batch) > batch:
            yield (
                f"{where}.optimisation.micro_batch_size is "
                f"{settings['optimisation']['micro_batch_size']}; it must not exceed batch_size = "
                f"{batch}"
            )
        if release == "full" and "adapter" in settings:
            yield f"{where}.adapter is set; whole checkpoints have no adapter. Remove the key"


def _message(source: str, problems: list[str]) -> str:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  - {problem.rstrip('.')}{_stop(problem)}" for problem in problems)
    return f"{source} has {count}; nothing was run.{lines}"


def _stop(problem: str) -> str:
    return "" if problem.endswith("?") else "."


def _choice(key: str, value: object, allowed: list[str], what: str) -> str:
    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f". Did you mean '{close[0]}'?" if close else ""
    return f"{key}: '{value}' is not {what}; choose from {', '.join(allowed)}{hint}".rstrip(
        "?."
    ) + ("?" if close else "")


def _describe(error: Any) -> str:
    """One schema error as a sentence: key, value, what is allowed, how to mend it."""
    key = _key(error.path)
    value, rule, allowed = error.instance, error.validator, error.validator_value
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(value) - set(known))
        where = f"{key}." if error.path else ""
        return _choice(f"{where}{unknown[0]}", unknown[0], known, "a known key")
    if rule == "required":
        missing = [name for name in allowed if name not in value]
        where = f"{key}." if error.path else ""
        return f"{where}{missing[0]} is missing; add it{_purpose(error.schema, missing[0])}"
    shown = f"{key} is {value!r}"
    if rule == "type":
        return f"{shown}; it must be {_type(allowed)}{_number_hint(value, allowed)}"
    if rule in ("enum", "const"):
        return _choice(key, value, [str(item) for item in allowed], "allowed")
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
