"""The state machine: legal steps move, others are refused."""

import itertools

import pytest
from tests.unit.containers.test_names import record

from wherry.containers.clock import ago, parse_rfc3339, parse_time, rfc3339
from wherry.containers.listing import command_text, status_text
from wherry.containers.model import Container, ExitRecord
from wherry.containers.states import TRANSITIONS, move
from wherry.errors import InvalidArgument, WherryError

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND


@pytest.mark.parametrize(("before", "after"), list(itertools.product(TRANSITIONS, TRANSITIONS)))
def test_only_the_table_moves(before: str, after: str) -> None:
    """Every pair of states: in the table it moves, else it is an error and nothing changes."""
    container = Container(record("a" * 64, "one"))
    container.status = before
    if after in TRANSITIONS[before]:
        move(container, after)
        assert container.status == after
    else:
        with pytest.raises(WherryError, match=f"cannot go from {before} to {after}"):
            move(container, after)
        assert container.status == before


@pytest.mark.parametrize("nanoseconds", [1, SECOND, NOW, NOW + 1, NOW + 120_000_000])
def test_times_go_there_and_back(nanoseconds: int) -> None:
    """RFC 3339 with nanoseconds, without trailing zeros."""
    text = rfc3339(nanoseconds)
    assert parse_rfc3339(text) == nanoseconds
    assert not text.endswith("0Z") or "." not in text


def test_no_time_is_gos_zero_time() -> None:
    """What never happened is year 1."""
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert parse_rfc3339("0001-01-01T00:00:00Z") == 0


def test_times_of_log_requests() -> None:
    """Seconds with a fraction, RFC 3339, durations; nothing and zero mean no limit; the rest is refused."""
    assert parse_time("1700000000.5") == 1_700_000_000_500_000_000
    assert parse_time("") is parse_time("0") is None
    assert parse_time("2023-11-14T22:13:20Z") == 1_700_000_000 * SECOND
    assert parse_time("2023-11-15T00:13:20.5+02:00") == 1_700_000_000_500_000_000
    assert parse_time("10m") is not None
    with pytest.raises(InvalidArgument):
        parse_time("yesterday")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("created", 0, "Created"),
        ("running", 0, "Up 2 minutes"),
        ("paused", 0, "Up 2 minutes (Paused)"),
        ("exited", 3, "Exited (3) 5 seconds ago"),
        ("restarting", 1, "Restarting (1) 5 seconds ago"),
        ("removing", 0, "Removal In Progress"),
        ("dead", 0, "Dead"),
    ],
)
def test_status_in_words(status: str, code: int, words: str) -> None:
    """What `ps` shows."""
    container = Container(record("a" * 64, "one"))
    container.status = status
    container.started_at = NOW - 125 * SECOND
    container.exit = ExitRecord(code=code, finished_at=NOW - 5 * SECOND)
    assert status_text(container, NOW) == words


def test_a_clock_that_went_back_is_no_negative_age() -> None:
    """Ages never go below nothing."""
    assert ago(NOW + SECOND, NOW) == "Less than a second"


def test_commands_are_quoted_as_dockerd_quotes() -> None:
    """Words with a blank get quotes."""
    assert command_text(["sh", "-c", "echo a b"]) == "sh -c 'echo a b'"
