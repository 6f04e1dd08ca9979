"""Digests are lower-case hex of the right length, or nothing."""

import hashlib

import pytest

from wherry.errors import DigestMismatch, InvalidReference
from wherry.oci import digest as digests
from wherry.oci.digest import Verifier

A64 = "a" * 64


@pytest.mark.parametrize("value", [f"sha256:{A64}", f"sha512:{A64}{A64}", "sha256:" + "0123456789abcdef" * 4])
def test_good(value: str) -> None:
    """A digest is its own text, with parts."""
    digest = digests.parse(value)
    assert digest == value
    assert f"{digest.algorithm}:{digest.hex}" == value
    assert digest.short == digest.hex[:12]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "invalid checksum digest format"),
        ("sha256", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        (f":{A64}", "invalid checksum digest format"),
        (A64, "invalid checksum digest format"),
        (f"md5:{A64}", "unsupported digest algorithm"),
        (f"SHA256:{A64}", "unsupported digest algorithm"),
        (f"sha256:{A64[:-1]}", "invalid checksum digest length"),
        (f"sha256:{A64}a", "invalid checksum digest length"),
        (f"sha512:{A64}", "invalid checksum digest length"),
        (f"sha256:{A64[:-1]}A", "invalid checksum digest format"),
        (f"sha256:{A64[:-1]}g", "invalid checksum digest format"),
        (f"sha256:{A64[:-1]}\n", "invalid checksum digest format"),
        ("sha256:../../../etc/passwd", "invalid checksum digest length"),
        ("sha256:" + ("../" * 22)[:64], "invalid checksum digest format"),
        ("sha256:" + "\u0661" * 64, "invalid checksum digest format"),
    ],
)
def test_bad(value: str, words: str) -> None:
    """What could be a path, or is not canonical, is no digest (CVE-2024-3727)."""
    with pytest.raises(InvalidReference) as caught:
        digests.parse(value)
    assert str(caught.value) == words


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_verifier(algorithm: str) -> None:
    """A stream verifies against its digest and length, and against nothing else."""
    data = b"x" * 1000
    right = digests.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    verifier = Verifier(right)
    verifier.update(data[:1])
    verifier.update(memoryview(data)[1:])
    assert verifier.verify(1000) == right
    with pytest.raises(DigestMismatch):
        verifier.verify(999)
    verifier.update(b"y")
    with pytest.raises(DigestMismatch):
        verifier.verify()
