"""Write docs/configuration.md from the settings: python docs/generate_configuration.py.

What a key means, allows and is by default stands at its field in the library's settings classes
(trap2/suites/settings.py and those that it names); the claims' and a site's in a schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "configuration.md"
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

from trap2.runtime.schema import SCHEMAS  # noqa: E402
from trap2.runtime.settings import schema_of  # noqa: E402
from trap2.suites.settings import Config, Suite  # noqa: E402

NOWHERE = object()

Schema = Mapping[str, Any]
Row = tuple[str, ...]

HEAD = """# Configuration

<!-- Made by docs/generate_configuration.py from the library's settings; edit those. -->

`config/config.yaml` says what runs, a file of `config/suites/` is one experiment,
`config/claims.yaml` lists what the paper claims, and `slurm/site.yaml` is of a cluster. Every key
of them is on this page. A key that is not here, or a value that is not allowed, ends the run before
any job, with all problems of the file.

For one run, a key of `config/config.yaml` can be set on the command line, after the targets:

```bash
snakemake --cores 2 results/table2.csv --config suite=demo seed=1
```

A changed value runs again what it enters, and nothing else; `snakemake -n` shows what that is. For
an experiment of your own, copy a suite's file under another name and set `suite`.

## Which folder

The whole configuration, `config/`, is that of the folder in which a run works: the one in which
Snakemake was started, or that of `--directory`. Where a part of it is missing there, the run ends
and says how to copy it; nothing is taken from the project's own copy instead.

## What is taken

A file of configuration is YAML, or JSON, in UTF-8, of at most 1 MB, 32 levels, 20,000 values and
1,000 entries in one list; an alias (`*name`) counts as all that it stands for. Keys are texts: a
backbone that is called 1 is written `'1'`. A date is a text. Tags (`!!…`) are refused. Names stand
in paths: of a suite small letters, digits and `-`, of a task letters, digits and `_`, of a backbone
these and `-`, at most 60, none of them a folder of the results (`data`, `heads`, `published` …),
and no two that differ in capitals alone. Files beside the suites that have no such name, like the
`._demo.yaml` that macOS leaves, are passed over.

## Which files are code

Configuration is data: a file of it that asks Snakemake's template engine to run Python
(`__use_yte__`) is refused before any of it is run, whether it is `config/config.yaml`,
`slurm/site-config.yaml` or given as `--configfile`. So is a `slurm_extra` that a shell would act
on. You can take such a file from somebody, read what it sets and use it.

These run what is written in them, dry runs included, and are to be trusted like any program: the
`Snakefile` and `workflow/`, the profiles (`profiles/default/config.yaml`, `slurm/config.yaml`, and
any that `--profile` or `--workflow-profile` names), and plugins, of this project or of Snakemake.
`--workflow-profile` in the place of `profiles/default/` also takes away its look at `--configfile`.

## Reading this page

In the tables, `{name}` stands for a name of your choice, and `–` for no default: what the key says
is then left out.
"""

FILES = {
    "config/config.yaml": Config,
    "config/suites/{suite}.yaml": Suite,
    "config/claims.yaml": "claims.schema.yaml",
    "slurm/site.yaml": "site.schema.yaml",
}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_file(title, source) for title, source in FILES.items())


def _file(title: str, source: str | type) -> str:
    if isinstance(source, type):
        schema = {**schema_of(source), "description": source.__doc__}
    else:
        schema = yaml.safe_load((SCHEMAS / source).read_text("utf-8"))
    rows = list(_rows(schema, schema, ""))
    parts = [f"\n## `{title}`\n\n{_sentence(schema['description'])}\n"]
    parts += _table([row for row in rows if not _parent(row)])
    for parent in dict.fromkeys(map(_parent, rows)):
        if parent:
            parts.append(f"\n### `{parent}`\n")
            parts += _table([row for row in rows if _parent(row) == parent])
    return "\n".join(parts) + "\n"


def _parent(row: Row) -> str:
    """The top-level key that a row's key lies below."""
    return row[0].strip("`").partition(".")[0].removesuffix("[]") if "." in row[0] else ""


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _rows(schema: Schema, root: Schema, path: str) -> Iterator[Row]:
    """A row for each key below ``schema``, and for the keys below it."""
    shown: dict[str, str] = {}
    for key, part in schema.get("properties", {}).items():
        required, name = key in schema.get("required", []), f"{path}{key}"
        rows = _key(_resolved(part, root), root, name, required)
        keys = _resolved(part, root).get("properties")
        shape = json.dumps(keys, sort_keys=True) if keys else name
        if (twin := shown.setdefault(shape, name)) == name:
            yield from rows
        else:
            *cells, meaning = next(rows)
            yield *cells, f"{meaning} Its keys are those of `{twin}`."
    extra = _resolved(schema.get("additionalProperties") or {}, root)
    if "properties" in extra:
        yield from _key(extra, root, f"{path}{{name}}", False)


def _key(part: Schema, root: Schema, path: str, required: bool) -> Iterator[Row]:
    default = part.get("default", NOWHERE)
    shown = "required" if required else "–" if default is NOWHERE else f"`{_literal(default)}`"
    yield f"`{path}`", _allowed(part, root), shown, _sentence(part["description"])
    items = _resolved(part.get("items", {}), root)
    if "properties" in items:
        yield from _rows(items, root, f"{path}[].")
    yield from _rows(part, root, f"{path}.")


def _resolved(part: Schema, root: Schema) -> dict[str, Any]:
    if "$ref" not in part:
        return dict(part)
    return {**root["$defs"][part["$ref"].rsplit("/", 1)[1]], **part}


def _allowed(part: Schema, root: Schema) -> str:
    if "enum" in part:
        return ", ".join(f"`{_literal(value)}`" for value in part["enum"])
    kind = part.get("type")
    if isinstance(kind, list):
        return " or ".join(_allowed({"type": one}, root) for one in kind)
    if kind == "array":
        return f"list: {_allowed(_resolved(part.get('items', {}), root), root)}"
    extra = _resolved(part.get("additionalProperties") or {}, root)
    if "type" in extra and "properties" not in extra:
        return f"mapping: name to {_allowed(extra, root)}"
    words = {"string": "text", "boolean": "`true`, `false`", "object": "mapping", "null": "`null`"}
    return words.get(str(kind)) or _number("whole number" if kind == "integer" else "number", part)


def _number(word: str, part: Schema) -> str:
    ends = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {part[key]}" for key, sign in ends.items() if key in part]
    return " ".join([word, ", ".join(limits)]).strip()


def _literal(value: Any) -> str:
    if isinstance(value, float) and value and abs(value) < 1e-3:
        return f"{value:.10f}".rstrip("0")
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    return text.removesuffix("\n...").strip()


def _sentence(text: str) -> str:
    return text.rstrip(".") + "."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
