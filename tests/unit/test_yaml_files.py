"""What is read as configuration is bounded before anything is made of it."""

from __future__ import annotations

import datetime
import time

import pytest
from trap2.runtime.messages import choice, message, shown
from trap2.runtime.schema import ConfigurationError, checked, read_yaml
from trap2.runtime.yaml_files import check_plain, parse_yaml
from trap2.suites.settings import Config

LEVELS = 11


def bomb() -> str:
    """Nine aliases of nine aliases of …: 9 ** 11 values in 11 lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, LEVELS)]
    return "\n".join(lines)


def grown() -> object:
    """The same, as Snakemake hands it over."""
    value: object = ["x"] * 9
    for _ in range(LEVELS):
        value = [value] * 9
    return value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(), "more than 20000 values, each alias counted as what it stands for"),
        ("[" * 1000 + "]" * 1000, "more than 32 levels of nesting"),
        ("a: &a [*a]", r"\*a stands within what it stands for"),
        ("a: &a " + "x" * 1000 + "\nb: [" + "*a, " * 2000 + "]", "letters, each alias counted"),
        ("a: [" + "1, " * 2000 + "]", "a has 2000 entries; at most 1000 are taken"),
        ("# " + "x" * 2_000_000, "a configuration may have 1048576"),
        ("1: 2\nsweet: 3", r"the key 1 is no text for YAML. Write it in quotes, '1'.*line 1"),
        ("on: 2", r"the key on is no text for YAML. Write it in quotes, 'on'"),
        ("a: 1\na: 2", r"'a' stands twice \(line 2"),
        ("a: !!python/name:os.system x", "line 1: the tag .*os.system is not read. Remove it"),
        ("a: " + "9" * 5000, "too long for a number"),
        ("a: " + "1:30" * 5000, "too long for a number"),
        ("a: 0x" + "f" * 100, "a is a whole number of 400 bits"),
        ("a: [", "line 1, column 5"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_is_refused(text, words):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=words) as error:
        parse_yaml(text.encode())
    assert len(str(error.value)) < 500
    assert time.perf_counter() - began < 10


def test_a_file_in_another_encoding_is_refused():
    with pytest.raises(ValueError, match="byte 1 is no UTF-8"):
        parse_yaml("suite: demo".encode("utf-16"))


@pytest.mark.parametrize("text", ["2026-13-45", "2026-12-24", "2026-12-24 12:00:00"])
def test_dates_are_texts(text):
    assert parse_yaml(f"a: {text}".encode()) == {"a": text}


def test_aliases_and_merged_mappings_are_read():
    text = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    a = {"x": 1, "y": 2}
    assert parse_yaml(text) == {"a": a, "b": {"x": 1, "y": 3}, "c": [a, a]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": grown()}, "more than 20000 values"),
        ({"a": {1: 2, "b": 3}}, r"the key 1 in a is no text but a number. Write it in quotes, '1'"),
        ({"a": {None: 2}}, "the key null in a is no text but null"),
        ({"a": datetime.date(2026, 12, 24)}, "a is 2026-12-24, a date; write it in quotes"),
        ({"a": 10**400}, "a is a whole number of 1329 bits"),
        ({"a": ["\ud800"]}, r"a\[0\] holds half a letter"),
    ],
    ids=["bomb", "number", "null", "date", "huge", "letter"],
)
def test_values_from_snakemake_that_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        check_plain(value)


def test_a_value_that_holds_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="levels of nesting"):
        check_plain(value)


def test_a_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml", "none.yaml")
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"a\.yaml is not valid YAML: byte 1 is no UTF-8"):
        read_yaml(tmp_path / "a.yaml", "a.yaml")
    with pytest.raises(ConfigurationError, match="not a regular file but a device"):
        read_yaml("/dev/zero", "zero")


@pytest.mark.parametrize("key", ["seeds", "plugins", "suite", "sources", "seed"])
def test_a_message_quotes_the_beginning_of_a_value(key):
    began = time.perf_counter()
    with pytest.raises(ConfigurationError, match=f"{key} is ") as error:
        checked({"suite": "demo"} | {key: [["x" * 500] * 50] * 50}, Config, "config.yaml")
    assert len(str(error.value)) < 4000
    assert time.perf_counter() - began < 5


def test_values_are_shown_as_far_as_they_go():
    assert shown([1, "a", {"b": None}]) == "[1, 'a', {'b': None}]"
    assert shown(10**5000) == "a whole number of 16610 bits"
    assert len(shown(grown())) < 250
    assert len(shown("x" * 10**6)) < 250
    assert len(choice("k" * 10**6, "v" * 10**6, ["a" * 10**6] * 1000, "known")) < 20_000
    told = message("file", [choice("k", "v", ["a" * 10**6] * 1000, "known")] * 1000)
    assert len(told) < 4000
    assert "more" in told
