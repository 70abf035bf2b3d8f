"""A file of configuration, before Snakemake reads it: data of a bounded size, and no program."""

from __future__ import annotations

import contextlib
from pathlib import Path

import yaml

from trap2.runtime import yaml_files
from trap2.runtime.reading import FileError, read_bytes
from trap2.runtime.schema import ConfigurationError
from trap2.runtime.yaml_files import parse_yaml

MARK = "__use_yte__"

FOLDER = Path("config")
"""The configuration, in the working directory (that of ``--directory``), all of it."""

PARTS = ("suites", "published", "claims.yaml")
"""What a run needs of it besides ``config.yaml``, which ``--configfile`` can stand for."""


def require_folder(project: Path) -> None:
    """End with an error where the working directory lacks a part of the configuration.

    Nothing of it is taken from the project's own copy instead: an edited file would be passed over
    without a word.

    Args:
        project: where that copy is, for the message.

    Raises:
        ConfigurationError: with what is missing, and how to get it.
    """
    missing = [str(FOLDER / name) for name in PARTS if not (FOLDER / name).exists()]
    if missing:
        raise ConfigurationError(
            f"{Path.cwd()} lacks {', '.join(missing)}; nothing was run. The whole configuration is "
            f"that of the folder in which a run works: start Snakemake in {project}, or copy the "
            f"folder there first: cp -r {project / FOLDER} ."
        )


def refuse_code(path: str | Path) -> None:
    """End with an error where a configuration file would be run, or is nothing to be read.

    Snakemake gives every configuration file to YTE, which runs the expressions of one that says
    ``__use_yte__``, in a dry run too.  A file that is not there, Snakemake refuses.

    Args:
        path: a file of configuration, before Snakemake reads it.

    Raises:
        ConfigurationError: the file asks for YTE, or is not the YAML that
            :func:`trap2.runtime.yaml_files.parse_yaml` takes.
    """
    if not Path(path).exists():
        return
    try:
        content = read_bytes(path, yaml_files.BYTES)
        if _asks_for_yte(content):
            raise ConfigurationError(
                f"{path}: {MARK} would let this configuration run Python; nothing was read of it. "
                "Write the values themselves (docs/configuration.md, Which files are code)"
            )
        parse_yaml(content)
    except FileError as error:
        raise ConfigurationError(str(error)) from None
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from None


def _asks_for_yte(content: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError, yaml.YAMLError):
        # YTE's own loader, so that no other reading of the file slips through.
        found = yaml.load(content.decode("utf-8"), yaml.FullLoader)
        return isinstance(found, dict) and MARK in found
    return False
