"""Passwords: argon2id, a bounded number at a time, and the same time for users that are not there.

A hash takes 19 MiB and some 20 ms (OWASP's smallest recommendation): one thread makes them all, so that many clients
who log in at once cost time and no memory. A password that was found right is remembered for a few minutes by a keyed
hash, because a client with basic authentication brings it with every request.
"""

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from wherry.registry.accounts.roles import PASSWORD_MAX
from wherry.registry.errors import TooManyRequests

_REMEMBERED: Final = 2048
_REMEMBER_SECONDS: Final = 300.0
_WAITING: Final = 64

hasher = PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)


def hash_password(password: str) -> str:
    """The hash to keep."""
    return hasher.hash(password.encode("utf-8", "surrogatepass"))


class Passwords:
    """Compares passwords with hashes."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._nobody = ""

    async def verify(self, stored: str, password: str, context: str) -> bool:
        """Whether `password` has the hash `stored`.

        Args:
            stored: the hash; empty for a user that is not there: takes as long, and is False.
            password: as it came.
            context: what the answer is remembered for (the user, and what changes with the password).

        Raises:
            TooManyRequests: too many wait already.
        """
        raw = password.encode("utf-8", "surrogatepass")
        if len(raw) > PASSWORD_MAX:
            return False
        key = hmac.digest(self._key, f"{context}\0{stored}\0".encode() + raw, "sha256")
        if self._is_remembered(key):
            return True
        if self._waiting >= _WAITING:
            raise TooManyRequests("too many logins at once", 1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._verify, stored, raw, key)
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """`hash_password`, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, hash_password, password)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)

    def _is_remembered(self, key: bytes) -> bool:
        until = self._right.get(key)
        return until is not None and until > time.monotonic()

    def _verify(self, stored: str, raw: bytes, key: bytes) -> bool:
        if self._is_remembered(key):  # by the one who waited before us
            return True
        if not stored and not self._nobody:
            self._nobody = hasher.hash(secrets.token_bytes(16))
        try:
            hasher.verify(stored or self._nobody, raw)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
        if not stored:
            return False
        self._right[key] = time.monotonic() + _REMEMBER_SECONDS
        self._right.move_to_end(key)
        while len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True
