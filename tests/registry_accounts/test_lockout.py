"""Wrong passwords slow down guessing, and lock nobody else out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.registry_accounts.serving import Answer, Registry
from wherry.registry.accounts import roles

Start = Callable[..., Registry]

_WRONG = "wrong password"


def _begin(start: Start, attempts: int, pace: float = 0.05) -> Registry:
    """A registry behind a proxy that is believed: tests choose the address of each client."""
    registry = start(attempts=attempts, proxies=["127.0.0.0/8"])
    if hasattr(registry.known.attempts, "pace"):
        registry.known.attempts.pace = pace
    registry.add("alice", "bob")
    return registry


def _log_in(registry: Registry, user: str, address: str, **password: str) -> Answer:
    return registry.ask("GET", "/token", user=user, **password, **{"X-Forwarded-For": address})


@pytest.mark.parametrize("address", ["192.0.2.1", "203.0.113.1"])
def test_attack_strangers_fail_under_a_users_name(start: Start, address: str) -> None:
    """After wrong passwords from 40 addresses the right one succeeds, where it was used before and elsewhere."""
    registry = _begin(start, attempts=1)
    assert _log_in(registry, "alice", "192.0.2.1").status == 200
    for number in range(40):
        _log_in(registry, "alice", f"198.51.100.{number}", password=_WRONG)
    assert _log_in(registry, "alice", address).status == 200


def test_attack_an_address_fails_for_everybody_behind_it(start: Start) -> None:
    """After many wrong passwords from an address, others log in from there, and so does the user who was guessed at."""
    registry = _begin(start, attempts=2)
    for number in range(20):
        _log_in(registry, f"user{number}", "192.0.2.1", password=_WRONG)
    for _ in range(2):
        _log_in(registry, "alice", "192.0.2.1", password=_WRONG)
    assert _log_in(registry, "bob", "192.0.2.1").status == 200
    assert _log_in(registry, "alice", "192.0.2.1").status == 200


def test_attack_failures_lock_a_robot_out(start: Start) -> None:
    """A robot's secret is right at once, whatever was wrong under its name and at its address."""
    registry = _begin(start, attempts=1)
    alice = registry.known.people.find("alice")
    robot, secret = registry.known.robots.add("ci", "alice/app", roles.robot_actions(["pull"]), alice)
    for number in range(40):
        _log_in(registry, robot.name, f"198.51.100.{number}", password=_WRONG)
    _log_in(registry, robot.name, "192.0.2.1", password="wry_" + "a" * 40)
    for number in range(8):
        _log_in(registry, f"user{number}", "192.0.2.1", password=_WRONG)
    registry.known.attempts.pace = 3600  # a turn would never come
    assert _log_in(registry, robot.name, "192.0.2.1", password=secret).status == 200


def test_guesses_are_few(start: Start) -> None:
    """Above the limit two guesses wait for their turn, and the others are refused unread, with the time to wait."""
    registry = _begin(start, attempts=2, pace=5)
    for _ in range(2):
        assert _log_in(registry, "alice", "192.0.2.1", password=_WRONG).status == 401
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: _log_in(registry, "alice", "192.0.2.1", password=_WRONG), range(6)),
        )
    assert sorted(answer.status for answer in answers) == [401, 401, 429, 429, 429, 429]
    assert all(answer.headers["retry-after"] == "6" for answer in answers if answer.status == 429)
