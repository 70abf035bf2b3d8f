"""A digest of the code that a job really uses, definition by definition.

From a script's statements it goes through the names that they use to functions, classes and
constants of this library, and from there on.  A class counts whole, and so does a module that is
used as a value.  Of a module that is used somehow, statements that do something (other than define,
import or add to a catalogue) count as well.  An entry of a catalogue counts for jobs that use it.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]

_WHOLE = "*"
_EFFECTS = "()"


def code_digest(script: str | Path, *, follow: bool = True) -> str:
    """A digest of a Python file and of what it uses of this library, near or far.

    Comments, docstrings and formatting do not count.  Given to a rule as a parameter, it makes
    Snakemake run the rule again when the code behind it changes, and only then.

    Args:
        script: a Python file; all its statements count.
        follow: whether what it uses counts; without, the file alone.
    """
    path = Path(script).resolve()
    if not follow:
        return _digest(statement.meaning for statement in _module(path).statements)
    return _followed(path, _WHOLE)


def entry_digest(file: str | Path, line: int) -> str:
    """A digest of the statement that adds an entry to a catalogue, and of what it uses.

    Args:
        file: where the entry was added (:meth:`trap2.runtime.catalogue.Catalogue.place`).
        line: of that file, anywhere in the statement.
    """
    return _followed(Path(file).resolve(), f"line {line}")


def lend_to_jobs() -> None:
    """Put this library before any other that the jobs of this process could import.

    Snakemake puts a script's folder behind the environment's packages; a ``trap2`` that is
    installed there must not stand in for this one.
    """
    path = [str(LIBRARY.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


@cache
def _followed(path: Path, member: str) -> str:
    return _digest(_meanings(_module(path), [member]))


def _digest(meanings: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for meaning in sorted(set(meanings)):
        digest.update(meaning.encode() + b"\0")
    return digest.hexdigest()[:16]


def _meanings(start: _Module, members: list[str]) -> Iterator[str]:
    """What counts from some members of a module on: their code, and that of all they use."""
    waiting = [(start, member) for member in members]
    seen: set[tuple[str, str]] = set()
    while waiting:
        module, member = waiting.pop()
        if (module.label, member) in seen:
            continue
        seen.add((module.label, member))
        if not member.startswith("line "):
            waiting.append((module, _EFFECTS))
        if member in module.imports:
            target = _target(module.imports[member], None)
            if isinstance(target, str):
                yield target
            else:
                waiting.append(target)
        for statement in module.of(member):
            yield f"{module.label}: {statement.meaning}"
            for found in module.targets(statement):
                if isinstance(found, str):
                    yield found
                else:
                    waiting.append(found)


Import = tuple[str, str | None]
"""What a name stands for that an import binds: a module, or a module and its member."""


@dataclass(frozen=True)
class _Statement:
    """A statement on the top level of a module, read when it is first asked for."""

    node: ast.stmt

    @cached_property
    def meaning(self) -> str:
        """The code without comments, docstrings and layout."""
        return ast.dump(_without_docstrings(self.node))

    @cached_property
    def imports(self) -> Mapping[str, Import]:
        """What is imported inside."""
        return dict(_imports_in(self.node))

    @cached_property
    def uses(self) -> set[tuple[str, str | None]]:
        """The names that are read inside, each with its attribute where there is one."""
        finder = _Uses()
        finder.visit(self.node)
        return finder.found


@dataclass(frozen=True)
class _Module:
    """A Python file's top level.

    Attributes:
        label: its place in the library, or its path, for the digest.
        statements: all but imports and docstrings.
        definitions: name to the statements that bind it.
        effects: the statements that do something.
        imports: what is imported on the top level.
        found: what :meth:`targets` has found, by statement.
    """

    label: str
    statements: list[_Statement] = field(default_factory=list)
    definitions: dict[str, list[_Statement]] = field(default_factory=dict)
    effects: list[_Statement] = field(default_factory=list)
    imports: dict[str, Import] = field(default_factory=dict)
    found: dict[int, list[tuple[_Module, str] | str]] = field(default_factory=dict)

    def of(self, member: str) -> list[_Statement]:
        """The statements of a member: a name, all, those with effects, or that on a line."""
        if member == _WHOLE:
            return [s for s in self.statements if not self.registers(s)]
        if member == _EFFECTS:
            return [s for s in self.effects if not self.registers(s)]
        if member.startswith("line "):
            line = int(member.removeprefix("line "))
            return [
                s for s in self.statements if s.node.lineno <= line <= (s.node.end_lineno or line)
            ]
        return self.definitions.get(member, [])

    def registers(self, statement: _Statement) -> bool:
        """Whether a statement is ``CATALOGUE.add(…)`` on a catalogue of the library."""
        call = statement.node.value if isinstance(statement.node, ast.Expr) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return False
        owner = call.func.value
        if call.func.attr != "add" or not isinstance(owner, ast.Name):
            return False
        found = self.resolve(statement, owner.id, None)
        if found is None or isinstance(found, str):
            return False
        made = [getattr(s.node, "value", None) for s in found[0].of(found[1])]
        return any(
            isinstance(m, ast.Call) and isinstance(m.func, ast.Name) and m.func.id == "Catalogue"
            for m in made
        )

    def targets(self, statement: _Statement) -> list[tuple[_Module, str] | str]:
        """What the names of a statement stand for, where that counts."""
        if id(statement) not in self.found:
            resolved = (self.resolve(statement, *use) for use in statement.uses)
            self.found[id(statement)] = [target for target in resolved if target is not None]
        return self.found[id(statement)]

    def resolve(
        self, statement: _Statement, name: str, attribute: str | None
    ) -> tuple[_Module, str] | str | None:
        """What a name of a statement stands for.

        Returns:
            A member of a module of the library, the words of another package's import, or None for
            what is neither (a local variable, a builtin).
        """
        bound = statement.imports.get(name) or self.imports.get(name)
        if bound is not None:
            return _target(bound, attribute)
        return (self, name) if name in self.definitions else None


def _target(bound: Import, attribute: str | None) -> tuple[_Module, str] | str:
    module, member = bound
    if member is not None and (path := _module_file(f"{module}.{member}")):
        return _module(path), attribute or _WHOLE
    path = _module_file(module)
    if path is None:
        return f"import {module} {member or ''}"
    return _module(path), member or attribute or _WHOLE


@cache
def _module(path: Path) -> _Module:
    inside = path.is_relative_to(LIBRARY.parent)
    module = _Module(str(path.relative_to(LIBRARY.parent) if inside else path.name))
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update(_imports_in(node))
        elif not (_is_string(node) or _is_for_type_checkers(node)):
            _add(module, _Statement(node))
    return module


def _add(module: _Module, statement: _Statement) -> None:
    node = statement.node
    module.statements.append(statement)
    defines = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {n for target in targets for n in _bound_names(target)}
        defines = all(not isinstance(t, ast.Attribute | ast.Subscript) for t in targets)
    elif defines:
        names = {node.name}  # type: ignore[attr-defined]
    else:
        names = _bound_names(node)
        module.imports.update(statement.imports)
    for name in names:
        module.definitions.setdefault(name, []).append(statement)
    if not defines:
        module.effects.append(statement)


def _bound_names(node: ast.AST) -> set[str]:
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(part.name)
    return found


def _imports_in(node: ast.AST) -> Iterator[tuple[str, Import]]:
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            for alias in part.names:
                yield alias.asname or alias.name.partition(".")[0], (alias.name, None)
        elif isinstance(part, ast.ImportFrom) and part.module:
            for alias in part.names:
                yield alias.asname or alias.name, (part.module, alias.name)


class _Uses(ast.NodeVisitor):
    """Collects the names that code reads, annotations of functions left out."""

    def __init__(self) -> None:
        self.found: set[tuple[str, str | None]] = set()

    def visit_Name(self, node: ast.Name) -> None:
        self.found.add((node.id, None))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self.found.add((node.value.id, node.attr))
        else:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        # An import alone runs a module.
        self.found.update((a.asname or a.name.partition(".")[0], _EFFECTS) for a in node.names)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)


@cache
def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != LIBRARY.name:
        return None
    place = LIBRARY.joinpath(*parts[1:])
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _without_docstrings(statement: ast.stmt) -> ast.stmt:
    for node in ast.walk(statement):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [part for part in node.body if not _is_string(part)]
            node.body = kept or [ast.Pass()]
    return statement


def _is_string(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_for_type_checkers(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
