"""What a result was made from: the code it ran and the versions it ran on."""

from __future__ import annotations

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]


def code_digest(script: str | Path, *, follow: bool = True) -> str:
    """A digest of a script and of every module of this library that it imports, near or far.

    Comments, docstrings and formatting do not count.  Given to a rule as a parameter, it makes
    Snakemake run the rule again when the code behind it changes, and only then.

    Args:
        script: a Python file.
        follow: whether what it imports counts; without, the file alone.
    """
    digest = hashlib.sha256()
    start = Path(script).resolve()
    for path in sorted(_imported(start) if follow else {start}):
        digest.update(_meaning(path).encode())
    return digest.hexdigest()[:16]


def lend_to_jobs() -> None:
    """Put this library before any other that the jobs of this process could import.

    Snakemake puts a script's folder behind the environment's packages; a ``trap2`` that is
    installed there must not stand in for this one.
    """
    path = [str(LIBRARY.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


def _imported(script: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imports(path))
    return seen


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    found = (_module_file(name) for name in names)
    return tuple(path for path in found if path is not None)


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != LIBRARY.name:
        return None
    place = LIBRARY.joinpath(*parts[1:])
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _meaning(path: Path) -> str:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(node, body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_docstring(node: ast.AST, first: ast.stmt) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        isinstance(node, documented)
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
