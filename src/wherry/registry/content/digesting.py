"""Hash what is stored."""

import hashlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wherry.registry.storage.driver import Reader, Writer

CHUNK: Final = 1 << 20


def new_hash(algorithm: str) -> Any:
    """A hash object of `sha256` or `sha512`."""
    return hashlib.new(algorithm, usedforsecurity=True)


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def catch_up(hasher: Any, value: "Reader | Writer", start: int, end: int) -> None:
    """Feed a hash with the bytes `start` to `end` of a stored value, in pieces."""
    while start < end:
        data = value.read_at(start, min(CHUNK, end - start))
        if not data:
            return
        hasher.update(data)
        start += len(data)


def digest_of_value(value: "Reader", algorithm: str) -> str:
    """The digest of a stored value."""
    hasher = new_hash(algorithm)
    catch_up(hasher, value, 0, value.size)
    return f"{algorithm}:{hasher.hexdigest()}"
