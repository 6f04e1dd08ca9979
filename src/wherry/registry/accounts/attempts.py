"""Wrong passwords make further attempts slow: of an account at an address, of an address, of an account.

Nobody is locked out. Above a limit an attempt waits for its turn before the password is looked at, and few may wait at
once: a right password succeeds after a few seconds, and guesses are as few as there are turns. A user who has logged in
from an address before is not slowed down by what others fail there, or by what strangers fail elsewhere.

Counted in this process: a server of several workers gives each its share.
"""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from wherry.registry.errors import TooManyRequests

WINDOW: Final = 900.0
PACE: Final = 5.0
"""Seconds that an attempt waits for its turn: less than the 15 seconds after which Docker gives a login up."""

_ADDRESS_FACTOR: Final = 5
_ACCOUNT_FACTOR: Final = 20
_KEYS: Final = 20_000
# how many may wait at once
_PAIR_TURNS: Final = 2
_ADDRESS_TURNS: Final = 16
_ACCOUNT_TURNS: Final = 4

_Key = tuple[str, str]


class Attempts:
    """Counts wrong passwords, and makes those who had too many wait.

    Args:
        limit: per account and address in 15 minutes; an address has five times as many, an account twenty times.
        workers: processes that share the limit.
        clock: seconds, growing.

    Attributes:
        pace: seconds that an attempt above the limit waits.
    """

    def __init__(self, limit: int, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = max(1, -(-limit // workers))
        self._workers = workers
        self._clock = clock
        self.pace = PACE
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()
        self._known: OrderedDict[_Key, None] = OrderedDict()
        self._waiting: dict[_Key, int] = {}

    def is_over(self, account: str, address: str) -> bool:
        """Whether there were too many wrong passwords for an attempt at once."""
        return bool(self._over(account, address))

    def spend(self, what: str, address: str) -> None:
        """Count something that everybody at an address may do as often as a password may be wrong.

        Raises:
            TooManyRequests: it was done that often, with the time until it is allowed again.
        """
        key = ("", f"{what} at {_network(address)}")
        now = self._clock()
        count, began = self._failures.get(key, (0, now))
        if count >= self._limit and began + WINDOW > now:
            raise TooManyRequests(f"too many attempts to {what}; try again later", int(began + WINDOW - now) + 1)
        self._count(key)

    async def turn(self, account: str, address: str) -> None:
        """Return at once below the limits, else when it is this attempt's turn.

        To be called before the password is looked at, and again afterwards: of many attempts at once, no more learn
        anything than the limit and the turns allow.

        Raises:
            TooManyRequests: enough attempts wait already.
        """
        over = self._over(account, address)
        if not over:
            return
        if any(self._waiting.get(key, 0) >= turns for key, turns in over):
            raise TooManyRequests("too many wrong passwords; try again later", int(self.pace) + 1)
        for key, _ in over:
            self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            await asyncio.sleep(self.pace)
        finally:
            for key, _ in over:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]

    def failed(self, account: str, address: str) -> None:
        """Count a wrong one."""
        for key, _, _ in self._keys(account, address):
            self._count(key)

    def _count(self, key: _Key) -> None:
        now = self._clock()
        count, began = self._failures.get(key, (0, now))
        if now - began >= WINDOW:
            count, began = 0, now
        self._failures[key] = (count + 1, began)
        self._failures.move_to_end(key)
        while len(self._failures) > _KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Forget the wrong ones of an account at an address; not those of the address, which may try others too.

        From now on the account is known at this address.
        """
        pair = (account[:64], _network(address))
        self._failures.pop(pair, None)
        self._known[pair] = None
        self._known.move_to_end(pair)
        while len(self._known) > _KEYS:
            self._known.popitem(last=False)

    def _over(self, account: str, address: str) -> list[tuple[_Key, int]]:
        """Which limits are reached, and how many may wait at each."""
        now = self._clock()
        found = []
        for key, limit, turns in self._keys(account, address):
            count, began = self._failures.get(key, (0, now))
            if count >= limit and began + WINDOW > now:
                found.append((key, max(1, turns // self._workers)))
        pair = (account[:64], _network(address))
        if pair in self._known:
            # what others failed, at its address or under its name, is not its own
            return [(key, turns) for key, turns in found if key == pair]
        return found

    def _keys(self, account: str, address: str) -> list[tuple[_Key, int, int]]:
        account = account[:64]
        network = _network(address)
        return [
            ((account, network), self._limit, _PAIR_TURNS),
            (("", network), self._limit * _ADDRESS_FACTOR, _ADDRESS_TURNS),
            ((account, ""), self._limit * _ACCOUNT_FACTOR, _ACCOUNT_TURNS),
        ]


def _network(address: str) -> str:
    """What one party can choose freely: an IPv4 address, the first half of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
