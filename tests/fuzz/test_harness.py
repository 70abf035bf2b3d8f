"""The harness notices what no case may do."""

import socket

import harness
import pytest
from trap2.runtime.errors import Trap2Error


def refuse():
    raise Trap2Error("lambda: is 'x'")


def test_a_value_and_a_refusal_come_back(tmp_path):
    assert harness.attempt(lambda: 3, tmp_path, []) == 3
    assert harness.attempt(refuse, tmp_path, ["lambda"]) == harness.Refused("lambda: is 'x'")


def test_cases_are_the_same_again_and_differ():
    first, again, other = (harness.generator("kind", number).random() for number in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("action", "broken"),
    [
        (refuse, "names none of"),
        (lambda: bytearray(2 << 30), "more than 1024 MB"),
        (lambda: open("/tmp/never", "w"), "outside its folder"),  # noqa: SIM115
        (lambda: socket.create_connection(("localhost", 9)), "went to the network"),
    ],
)
def test_what_no_case_may_do(tmp_path, action, broken):
    with pytest.raises(harness.Broken, match=broken):
        harness.attempt(action, tmp_path, ["sigma"])


def test_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "SECONDS", 1)

    def hang():
        while True:
            pass

    with pytest.raises(harness.Broken, match="took more than 1 s"):
        harness.attempt(hang, tmp_path, ["sigma"])


def test_other_exceptions_are_not_caught(tmp_path):
    with pytest.raises(ZeroDivisionError):
        harness.attempt(lambda: 1 / 0, tmp_path, ["sigma"])
