"""Plugins: Python files of one's own that add entries to the catalogues.

A plugin is code that is executed, by the workflow's own process and by every job: name only files
that you would run.  What it computes with, its functions import when they run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from trap2.runtime.errors import Trap2Error

_loaded: set[Path] = set()


class PluginError(Trap2Error):
    """A plugin that cannot be loaded."""


def load(paths: Iterable[str | Path]) -> None:
    """Run plugins that this process has not run yet, in order.

    Args:
        paths: Python files, relative to the folder of the run.

    Raises:
        PluginError: a file is missing or no Python file, or running it fails, for example because
            a name that it adds is taken; the message has the file, the line and the reason.
    """
    for path in map(Path, paths):
        place = path.resolve()
        if place not in _loaded:
            _run(path, place)
            _loaded.add(place)


def _run(path: Path, place: Path) -> None:
    if path.suffix != ".py":
        raise PluginError(f"plugins: {path} is no Python file; its name must end in .py")
    if not place.is_file():
        raise PluginError(f"plugins: there is no file {path}. Make it, or remove it from the list")
    # The path is in the name, so that two plugins may have files of the same name.
    name = f"trap2_plugin_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = str(error) or type(error).__name__
        raise PluginError(f"plugins: {path}{_line(error, place)}: {reason}") from error


def _line(error: BaseException, place: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(place)
    ]
    return f", line {lines[-1]}" if lines else ""
