"""Plugins: what they add is there, and what is wrong with one is said before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from trap2.cli.main import main
from trap2.merging.catalogue import METHODS
from trap2.protection.catalogue import PROTECTIONS, post_hoc_protections, trained_protections
from trap2.runtime import plugins
from trap2.runtime.code_digest import entry_digest
from trap2.runtime.errors import Trap2Error

MEDIAN = """
from trap2.merging.catalogue import METHODS, Method

FACTOR = 1
OTHER = 2


def median(layer, options):
    return FACTOR * layer.dense().median(0).values


METHODS.add(Method(name="Median", paper="here", layer=median))
"""


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """The catalogue and the list of loaded plugins are as before after each test."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    monkeypatch.setattr(METHODS, "_places", dict(METHODS._places))
    monkeypatch.setattr(plugins, "_loaded", set())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("trap2_plugin_"):
            del sys.modules[name]


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_plugin_adds_its_entries_once(tmp_path):
    path = write(tmp_path, MEDIAN)
    plugins.load([path])
    plugins.load([path, tmp_path / "." / "mine.py"])
    assert list(METHODS)[-1] == "Median"
    assert METHODS.place("Median")[0] == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n1 +", "mine.py, line 2: invalid syntax"),
        ("import nothing_like_it", "mine.py, line 1: No module named 'nothing_like_it'"),
        ("\nraise SystemExit", "mine.py, line 2: SystemExit"),
        (MEDIAN.replace('"Median"', '"TIES"'), "the name 'TIES' of a merging method is taken"),
        (MEDIAN.replace('"Median"', '"a/b"'), "'a/b' cannot be the name of a merging method"),
    ],
)
def test_a_plugin_that_fails_is_named_with_the_line(tmp_path, text, message):
    with pytest.raises(Trap2Error, match=r"plugins: .*mine\.py") as raised:
        plugins.load([write(tmp_path, text)])
    assert message in str(raised.value)


def test_a_plugin_that_is_no_file(tmp_path):
    with pytest.raises(Trap2Error, match=r"there is no file .*none\.py"):
        plugins.load([tmp_path / "none.py"])
    with pytest.raises(Trap2Error, match="is no Python file"):
        plugins.load([write(tmp_path, MEDIAN, "mine.txt")])


def test_the_digest_of_an_entry_follows_what_it_uses_of_its_plugin(tmp_path):
    def digest(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir()
        METHODS._entries.pop("Median", None)
        plugins.load([write(tmp_path / folder, text)])
        return entry_digest(*METHODS.place("Median"))

    first = digest("a", MEDIAN)
    assert digest("b", MEDIAN.replace("OTHER = 2", "OTHER = 3  # more")) == first
    assert digest("c", MEDIAN.replace("FACTOR = 1", "FACTOR = 2")) != first


def test_the_command_line_takes_plugins(tmp_path):
    path = write(tmp_path, MEDIAN)
    done = CliRunner().invoke(main, ["--plugin", str(path), "merge", "--help"])
    assert done.exit_code == 0, done.output
    assert "Median" in METHODS
    missing = CliRunner().invoke(main, ["--plugin", "none.py", "merge", "--help"])
    assert missing.exit_code == 1
    assert "Error: plugins: there is no file none.py" in missing.output


HALF = """
from trap2.protection.catalogue import PROTECTIONS, Protection


def protect(adapter, base, heads, draws):
    return adapter


PROTECTIONS.add(Protection(name="half", paper="here", objective=lambda l, o: None{more}))
"""


def test_a_protection_may_be_trained_and_transformed_but_by_one_transform(tmp_path, monkeypatch):
    monkeypatch.setattr(PROTECTIONS, "_entries", dict(PROTECTIONS._entries))
    both = ", protect=protect, protect_with=lambda a, b, c: a"
    for more, message in (
        (both, "line 9: half: give protect or protect_with, not both"),
        (", strength='alpha'", "line 9: half: strength is 'alpha', and it has no such option"),
    ):
        with pytest.raises(Trap2Error, match=message):
            plugins.load([write(tmp_path, HALF.replace("{more}", more))])
        assert "half" not in PROTECTIONS
    post_hoc = HALF.replace("objective=lambda l, o: None", "protect=protect")
    with pytest.raises(Trap2Error, match="half has strength or needs_unprotected, which are a"):
        plugins.load([write(tmp_path, post_hoc.replace("{more}", ", needs_unprotected=True"))])
    plugins.load([write(tmp_path, HALF.replace("{more}", ", protect=protect"))])
    assert "half" in trained_protections()
    assert "half" not in post_hoc_protections()


def test_training_takes_a_protection_of_a_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(PROTECTIONS, "_entries", dict(PROTECTIONS._entries))
    plugin = str(write(tmp_path, HALF.replace("{more}", "")))

    def said(*options: str) -> str:
        needed = ("--base", str(tmp_path), "--data", str(tmp_path), "--output", str(tmp_path / "x"))
        done = CliRunner().invoke(main, ["--plugin", plugin, "train", *needed, *options])
        assert done.exit_code != 0
        assert not isinstance(done.exception, TypeError | KeyError)
        return " ".join(done.output.split())

    assert "unknown protection 'hal'" in said("--lambda", "1", "--protection", "hal")
    assert "params is not trained (trap2 protect)" in said("--protection", "params")
    assert "only with --lambda" in said("--protection", "half")
    assert "only with --lambda, the TRAP² objective" in said(
        "--lambda", "1", "--protection", "half", "--s-max", "3"
    )
    assert "TRAP² has options of its own" in said("--lambda", "1", "--protection-option", "a=1")
