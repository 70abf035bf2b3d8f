"""Reading the configuration and the suites, checked before any job runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from trap2.runtime.messages import choice, message
from trap2.runtime.schema import ConfigurationError, checked, read_yaml
from trap2.runtime.yaml_files import check_plain
from trap2.suites.checks import _download_problems, _suite_problems
from trap2.suites.names import name_problems, suite_names, suite_problem
from trap2.suites.settings import Config, Suite


def check_config(config: Mapping[str, object], suites: Path) -> Config:
    """The workflow's configuration with defaults filled in.

    Args:
        config: what ``config/config.yaml`` and the command line say.
        suites: the folder of the suites' files.

    Raises:
        ConfigurationError: a key is unknown or a value is not allowed.
    """
    try:
        check_plain(config)
    except ValueError as error:
        raise ConfigurationError(message("config/config.yaml", [str(error)])) from None
    if isinstance(seeds := config.get("seeds"), list):
        # Snakemake reads the numbers of a list on the command line as texts.
        numbers = [int(n) if isinstance(n, str) and n.isdecimal() else n for n in seeds]
        config = {**config, "seeds": numbers}
    settings = checked(config, Config, "config/config.yaml")
    available = suite_names(suites)
    problems = list(_download_problems(settings))
    if settings.seeds and settings.checkpoints == "released":
        problems.append(
            "seeds is set, and released checkpoints are those of one seed. Remove one of the two"
        )
    if problem := suite_problem(settings.suite):
        problems.append(problem)
    elif settings.suite not in available:
        problems.append(choice("suite", settings.suite, available, "a file of config/suites"))
    if problems:
        raise ConfigurationError(message("config/config.yaml", problems))
    return settings


def suites_from(source: str, suites: Path) -> list[str]:
    """The names of the suites whose data comes from one source, ``demo`` or ``catalogue``.

    A file that cannot be read belongs to neither; :func:`load_suite` says what is wrong with it
    when it is used.
    """
    found = []
    for name in suite_names(suites):
        try:
            content = read_yaml(suites / f"{name}.yaml", name)
        except ConfigurationError:
            continue
        data = content.get("data") if isinstance(content, Mapping) else None
        if isinstance(data, Mapping) and data.get("source") == source:
            found.append(name)
    return found


def load_suite(
    name: str,
    suites: Path,
    catalogue: str | Path | None = None,
    protections: Iterable[str] | None = None,
) -> Suite:
    """One suite with defaults filled in.

    Args:
        name: its file's name without the ending.
        suites: the folder of the suites' files.
        catalogue: the catalogue of datasets in use; the library's own by default.
        protections: what to compare in place of the suite's own ``protections``.

    Raises:
        ConfigurationError: there is no such suite, its file is not YAML, a key is unknown, a
            value is not allowed, or two values do not fit together.
    """
    path = suites / f"{name}.yaml"
    source = f"config/suites/{name}.yaml"
    if problem := suite_problem(name):
        raise ConfigurationError(message("config/config.yaml", [problem]))
    if not path.exists():
        available = suite_names(suites)
        problem = choice("suite", name, available, "a file of config/suites")
        raise ConfigurationError(message("config/config.yaml", [problem]))
    content = read_yaml(path, source)
    if protections is not None and isinstance(content, Mapping):
        content = {**content, "protections": list(protections)}
    suite = checked(content, Suite, source)
    problems = [*name_problems(suite), *_suite_problems(suite, catalogue)]
    if problems:
        raise ConfigurationError(message(source, problems))
    return suite
