"""Write docs/api.md from the docstrings: python docs/generate_api.py.

SURFACE is what may be relied on; what is not in it may change without a word in the changelog.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "api.md"

SURFACE = {
    "The objective": (
        "trap2.protection.trap2.Trap2",
        "trap2.protection.trap2.WEIGHTINGS",
        "trap2.training.selection.select_lambda",
    ),
    "Updates": (
        "trap2.updates.delta.LowRank",
        "trap2.updates.delta.CheckpointUpdate",
        "trap2.updates.delta.UpdateError",
        "trap2.updates.delta.check_updates",
        "trap2.updates.delta.dense",
        "trap2.updates.delta.dense_layers",
        "trap2.updates.delta.shape_of",
        "trap2.updates.stored.load_update",
        "trap2.updates.stored.load_updates",
        "trap2.updates.stored.release_format",
    ),
    "Adapters": (
        "trap2.updates.adapters.AdapterSettings",
        "trap2.updates.adapters.read_adapter",
        "trap2.updates.adapters.write_adapter",
        "trap2.updates.adapters.is_dora",
        "trap2.updates.adapters.read_dora",
        "trap2.updates.trainable.TrainableUpdate",
        "trap2.updates.trainable.Point",
    ),
    "Training scripts": (
        "trap2.integrations.adapters.trap2_backward",
        "trap2.integrations.adapters.scale_of_step",
        "trap2.integrations.adapters.AdapterError",
    ),
    "Mergers": (
        "trap2.merging.merger.Merger",
        "trap2.merging.catalogue.METHODS",
        "trap2.merging.catalogue.check_options",
        "trap2.merging.spaces.SPACES",
        "trap2.merging.search.coefficient_grid",
        "trap2.merging.search.CoefficientSearch",
        "trap2.merging.search.search_coefficient",
    ),
}

HEAD = """# The library

<!-- Made by docs/generate_api.py from the docstrings; edit those. -->

What you can rely on in your own code: the objective of any loss, updates and adapters as files and
in memory, and the mergers. A change of it stands in the [changelog](../CHANGELOG.md); everything
else may change without a word. [glossary.md](glossary.md) has the paper's words for these names,
[command-line.md](command-line.md) the same as commands.

After `pip install .`, or in a clone with `PYTHONPATH=workflow/scripts`:

```python
from trap2.merging.merger import Merger
from trap2.updates.stored import load_update

base = "results/demo/ViT-demo"
folders = [f"{base}/lora/{task}/unprotected" for task in ("digits", "signs")]
updates = [load_update(folder, f"{base}/tower.safetensors") for folder in folders]
merged = Merger(updates, "Core").merge("TIES")
```
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n## {title}\n{_group(names)}" for title, names in SURFACE.items())


def found(name: str) -> Any:
    """The object that a dotted name stands for."""
    sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))
    try:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
    finally:
        sys.path.pop(0)


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, value in vars(kind).items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value


def comment_of(name: str) -> str:
    """What a module says of a constant: the comment before it, or the text after it."""
    module, _, attribute = name.rpartition(".")
    found(name)
    lines = inspect.getsource(sys.modules[module]).splitlines()
    place = next(n for n, line in enumerate(lines) if re.match(rf"{attribute}\b", line))
    before = list(takewhile(lambda line: line.startswith("#"), reversed(lines[:place])))
    if before:
        return "\n".join(line.removeprefix("#").strip() for line in reversed(before))
    end = next((n for n in range(place, len(lines)) if lines[n].startswith('"""')), None)
    return "" if end is None else lines[end].strip('"')


def _group(names: tuple[str, ...]) -> str:
    return "".join(_entry(name) for name in names)


def _entry(name: str) -> str:
    value = found(name)
    if inspect.isclass(value):
        own = [_described(f"{value.__name__}.{n}", m, "####") for n, m in methods(value)]
        return _described(name, value, "###") + "".join(own)
    if inspect.isfunction(value):
        return _described(name, value, "###")
    return f"\n### `{name}`\n\n{_text(comment_of(name))}\n\n{_items(value)}"


def _described(name: str, value: Any, level: str) -> str:
    shown = f"\n{level} `{name}`\n\n"
    if not isinstance(value, property) and not issubclass_of_error(value):
        shown += f"```python\n{_signature(name.rpartition('.')[2], value)}\n```\n\n"
    return shown + _text(inspect.getdoc(value) or "") + "\n" + _about(value)


def _about(value: Any) -> str:
    """What a settings class says of each of its fields."""
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    lines = [f"- `{f.name}`: {f.metadata['about']}\n" for f in fields if f.metadata.get("about")]
    return "\n" + "".join(lines) if lines else ""


def issubclass_of_error(value: Any) -> bool:
    """Whether it is an exception, whose call is nobody's business."""
    return inspect.isclass(value) and issubclass(value, BaseException)


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    skipped = ("self", "cls")
    kept = [p for p in signature.parameters.values() if p.name not in skipped]
    kept = [p.replace(annotation=_plain(p.annotation)) for p in kept]
    signature = signature.replace(return_annotation=_plain(signature.return_annotation))
    line = f"{name}{signature.replace(parameters=kept)}".replace(" -> None", "")
    line = re.sub(r"<factory>", "…", line)
    if len(line) <= 96:
        return line
    inside = ",\n".join(f"    {parameter}" for parameter in kept)
    returned = signature.return_annotation
    after = "" if inspect.isclass(value) else f" -> {returned}"
    return re.sub(r"<factory>", "…", f"{name}(\n{inside},\n){after}")


def _plain(annotation: Any) -> Any:
    """An annotation as it stands in the code, without quotes."""
    return _Plain(annotation) if isinstance(annotation, str) else annotation


class _Plain(str):
    """A text that shows itself without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _items(value: Any) -> str:
    if not hasattr(value, "keys"):
        return f"`{value!r}`\n"
    return ", ".join(f"`{key}`" for key in value) + "\n"


def _text(doc: str) -> str:
    """A docstring of Google's style as Markdown."""
    out: list[str] = []
    for line in doc.splitlines():
        item = re.match(r"    (\*{0,2}\w+|\w[\w., ]*): (.*)", line)
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line):
            out += [f"*{line.removesuffix(':')}*", ""]
        elif item and out and not line.startswith("     "):
            out.append(f"- `{item.group(1)}`: {item.group(2)}")
        else:
            out.append(line.strip() if line.startswith("    ") else line)
    text = "\n".join(out)
    text = re.sub(r":(?:func|class|meth|data|mod):`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def undocumented() -> list[str]:
    """What the surface leaves unsaid: a name's text, an argument, a field, an error."""
    problems = []
    for names in SURFACE.values():
        for name in names:
            value = found(name)
            if inspect.isclass(value):
                problems += _unsaid(name, value, _fields(value))
                for own, method in methods(value):
                    problems += _unsaid(f"{name}.{own}", method, _arguments(method))
            elif inspect.isfunction(value):
                problems += _unsaid(name, value, _arguments(value))
            elif not comment_of(name):
                problems.append(f"{name} has no comment")
    return problems


def _fields(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        fields = [f for f in dataclasses.fields(kind) if not f.metadata.get("about")]
        return [field.name for field in fields if not field.name.startswith("_")]
    return [] if issubclass_of_error(kind) else _arguments(kind.__init__)


def _arguments(function: Any) -> list[str]:
    if isinstance(function, property):
        return []
    names = inspect.signature(function).parameters
    return [name for name in names if name not in ("self", "cls", "args", "kwargs")]


def _unsaid(name: str, value: Any, needed: list[str]) -> Iterator[str]:
    doc = inspect.getdoc(value) or ""
    own = value.fget if isinstance(value, property) else value
    if not doc or (inspect.isclass(value) and value.__doc__ is None):
        yield f"{name} has no docstring"
        return
    # One argument that the sentence itself speaks of needs no list.
    if len(needed) > 1 or (needed and "Args:" in doc):
        yield from (f"{name}: {n} is not described" for n in needed if not _says(doc, n))
    body = inspect.getsource(own)
    if inspect.isfunction(own) and re.search(r"^\s+raise \w+", body, re.M) and "Raises:" not in doc:
        yield f"{name}: its errors are not described"


def _says(doc: str, argument: str) -> bool:
    return bool(re.search(rf"^\s+\*{{0,2}}{argument}(, \w+)*:|``{argument}``", doc, re.M))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
