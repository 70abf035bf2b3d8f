"""Configuration is data: a file of it that Snakemake would run as a program is refused."""

from __future__ import annotations

from pathlib import Path

import yaml

from trap2.runtime.schema import ConfigurationError

MARK = "__use_yte__"


def refuse_code(path: str | Path) -> None:
    """End with an error where Snakemake would run the Python in a configuration file.

    Snakemake gives every configuration file to YTE, which runs the expressions of one that says
    ``__use_yte__``, in a dry run too.  What is not there or cannot be read, Snakemake refuses.

    Args:
        path: a file of configuration, before Snakemake reads it.

    Raises:
        ConfigurationError: the file asks for YTE.
    """
    try:
        # YTE's own loader, so that no other reading of the file slips through.
        content = yaml.load(Path(path).read_text("utf-8"), yaml.FullLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    if isinstance(content, dict) and MARK in content:
        raise ConfigurationError(
            f"{path}: {MARK} would let this configuration run Python; nothing was read of it. "
            "Write the values themselves (docs/configuration.md, Which files are code)"
        )
