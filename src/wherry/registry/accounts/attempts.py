"""Limits of wrong passwords: for an account at an address, for an address, for an account.

Counted in this process: a server of several workers gives each its share. Somebody at another address cannot lock a
user out but by very many attempts, and then only from new addresses.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from wherry.registry.errors import TooManyRequests

WINDOW: Final = 900.0
_ADDRESS_FACTOR: Final = 5
_ACCOUNT_FACTOR: Final = 20
_KEYS: Final = 20_000


class Attempts:
    """Counts wrong passwords.

    Args:
        limit: per account and address in 15 minutes; an address has five times as many, an account twenty times.
        workers: processes that share the limit.
        clock: seconds, growing.
    """

    def __init__(self, limit: int, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = max(1, -(-limit // workers))
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def check(self, account: str, address: str) -> None:
        """Refuse an attempt if there were too many, even with the right password.

        To be asked before the password is looked at, and again afterwards: of many attempts at once, no more than the
        limit learn anything.

        Raises:
            TooManyRequests: with the time to wait.
        """
        now = self._clock()
        for key, limit in self._keys(account, address):
            count, began = self._failures.get(key, (0, now))
            left = began + WINDOW - now
            if left > 0 and count >= limit:
                raise TooManyRequests("too many wrong passwords; try again later", int(left) + 1)

    def failed(self, account: str, address: str) -> None:
        """Count a wrong one."""
        now = self._clock()
        for key, _ in self._keys(account, address):
            count, began = self._failures.get(key, (0, now))
            if now - began >= WINDOW:
                count, began = 0, now
            self._failures[key] = (count + 1, began)
            self._failures.move_to_end(key)
        while len(self._failures) > _KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Forget the wrong ones of an account at an address; not those of the address, which may try others too."""
        self._failures.pop((account, _network(address)), None)

    def _keys(self, account: str, address: str) -> list[tuple[tuple[str, str], int]]:
        account = account[:64]
        network = _network(address)
        return [
            ((account, network), self._limit),
            (("", network), self._limit * _ADDRESS_FACTOR),
            ((account, ""), self._limit * _ACCOUNT_FACTOR),
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
