"""Limits of wrong passwords."""

import asyncio

import pytest

from wherry.registry.accounts.attempts import WINDOW, Attempts
from wherry.registry.errors import TooManyRequests


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _is_refused(attempts: Attempts, account: str, address: str) -> bool:
    """Whether an attempt would not be served at once."""
    return attempts.is_over(account, address)


def test_an_account_at_an_address_is_limited_for_a_while() -> None:
    """After the limit an account is refused at that address, not elsewhere, and again let in when the time is over."""
    clock = _Clock()
    attempts = Attempts(3, clock=clock)
    for _ in range(3):
        attempts.failed("alice", "192.0.2.1")
    assert _is_refused(attempts, "alice", "192.0.2.1")
    assert not _is_refused(attempts, "bob", "192.0.2.1")
    assert not _is_refused(attempts, "alice", "192.0.2.2")
    clock.now += WINDOW
    assert not _is_refused(attempts, "alice", "192.0.2.1")


def test_an_address_is_limited_whatever_the_account() -> None:
    """Who tries one password with many names is refused by address."""
    attempts = Attempts(3)
    for number in range(15):
        attempts.failed(f"user{number}", "192.0.2.1")
    assert _is_refused(attempts, "alice", "192.0.2.1")


def test_an_account_is_limited_wherever_from() -> None:
    """Very many addresses together are limited too."""
    attempts = Attempts(3)
    for number in range(60):
        attempts.failed("alice", f"192.0.2.{number}")
    assert _is_refused(attempts, "alice", "198.51.100.1")


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::2")],
)
def test_addresses_of_one_party_are_one(one: str, other: str) -> None:
    """An IPv6 network that one party has, and an IPv4 address in either form, count as one."""
    attempts = Attempts(1)
    attempts.failed("alice", one)
    assert _is_refused(attempts, "alice", other)


def test_a_right_password_clears_the_account_and_not_the_address() -> None:
    """One's own account does not clear what the address did to others."""
    attempts = Attempts(2)
    for number in range(10):
        attempts.failed(f"user{number}", "192.0.2.1")
    attempts.succeeded("mallory", "192.0.2.1")
    assert _is_refused(attempts, "alice", "192.0.2.1")
    assert not _is_refused(attempts, "mallory", "192.0.2.1")


def test_a_known_user_is_not_slowed_down_by_others() -> None:
    """Who has logged in from an address before answers there for its own wrong passwords only."""
    attempts = Attempts(2)
    attempts.succeeded("alice", "192.0.2.1")
    for number in range(60):
        attempts.failed("alice", f"198.51.100.{number}")
        attempts.failed(f"user{number}", "192.0.2.1")
    assert not _is_refused(attempts, "alice", "192.0.2.1")
    assert _is_refused(attempts, "alice", "203.0.113.1")
    for _ in range(2):
        attempts.failed("alice", "192.0.2.1")
    assert _is_refused(attempts, "alice", "192.0.2.1")


def test_turns_are_few() -> None:
    """Above the limit two attempts wait, further ones are refused; after them there is room again."""
    attempts = Attempts(1)
    attempts.pace = 0.01
    attempts.failed("alice", "192.0.2.1")

    async def main() -> None:
        for _ in range(2):
            many = await asyncio.gather(
                *(attempts.turn("alice", "192.0.2.1") for _ in range(20)), return_exceptions=True
            )
            assert sum(one is None for one in many) == 2
            assert all(one is None or isinstance(one, TooManyRequests) for one in many)

    asyncio.run(main())


def test_what_everybody_may_do_is_limited_by_address() -> None:
    """It is refused above the limit at that address only, and is no wrong password."""
    attempts = Attempts(2)
    for _ in range(2):
        attempts.spend("sign up", "192.0.2.1")
    with pytest.raises(TooManyRequests) as raised:
        attempts.spend("sign up", "192.0.2.1")
    assert 0 < raised.value.retry_after <= WINDOW + 1
    for number in range(60):
        attempts.spend("sign up", f"198.51.100.{number}")
    assert not _is_refused(attempts, "alice", "192.0.2.1")


def test_workers_share_the_limit() -> None:
    """With several processes each has its share."""
    attempts = Attempts(10, workers=4)
    for _ in range(3):
        attempts.failed("alice", "192.0.2.1")
    assert _is_refused(attempts, "alice", "192.0.2.1")


def test_memory_is_bounded() -> None:
    """A flood of names does not fill memory."""
    attempts = Attempts(2)
    for number in range(30_000):
        attempts.failed(f"user{number}", f"2001:db8:{number:x}::1")
    assert len(attempts._failures) <= 20_000
