"""Content digests, as the OCI image specification writes them: `algorithm:encoded`.

A digest becomes a path (`blobs/sha256/<hex>`), so nothing is one that is not exactly lower-case hex of the right
length (CVE-2024-3727). The words of a refusal are those that Docker's users know.
"""

import hashlib

from wherry.errors import DigestMismatch, InvalidReference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ALGORITHMS: "Final[dict[str, int]]" = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """A verified digest, made by `parse` or by hashing.

    A `str`, so that it is a dictionary key as it is; what leaves for JSON is `str(digest)`, since msgspec encodes no
    subclasses.
    """

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The encoded part: lower-case hex, safe as a file name."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 digits, as tables and messages show them."""
        return self.partition(":")[2][:12]


def parse(value: str) -> Digest:
    """Return `value` as a digest.

    Raises:
        InvalidReference: `invalid checksum digest format`, `unsupported digest algorithm` or
            `invalid checksum digest length`.
    """
    algorithm, colon, encoded = value.partition(":")
    if not colon or not algorithm or not encoded:
        raise InvalidReference("invalid checksum digest format")
    length = ALGORITHMS.get(algorithm)
    if length is None:
        raise InvalidReference("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidReference("invalid checksum digest length")
    if not _HEX.issuperset(encoded):
        raise InvalidReference("invalid checksum digest format")
    return Digest(value)


def is_hex(value: str) -> bool:
    """Whether `value` is one or more lower-case hex digits."""
    return bool(value) and _HEX.issuperset(value)


def of(data: bytes) -> Digest:
    """Return the sha256 digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


class Verifier:
    """Hash a stream on its way and compare at the end.

    Args:
        expected: what it should hash to; None computes sha256 and compares with nothing.
    """

    __slots__ = ("_hash", "expected", "size")

    def __init__(self, expected: Digest | None = None) -> None:
        self.expected = expected
        self.size = 0
        self._hash = hashlib.new(expected.algorithm if expected else "sha256")

    def update(self, data: "bytes | bytearray | memoryview") -> None:
        """Take the next bytes."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> Digest:
        """The digest of what came so far."""
        return Digest(f"{self._hash.name}:{self._hash.hexdigest()}")

    def verify(self, size: int | None = None) -> Digest:
        """Return the digest, or raise `DigestMismatch` where it, or `size` in bytes, is not as expected."""
        found = self.digest
        if size is not None and size != self.size:
            raise DigestMismatch(
                f"unexpected size {self.size}, expected {size}" + (f": {self.expected}" if self.expected else ""),
                expected=size,
                found=self.size,
            )
        if self.expected is not None and found != self.expected:
            raise DigestMismatch(
                f"unexpected digest {found}, expected {self.expected}", expected=self.expected, found=found
            )
        return found
