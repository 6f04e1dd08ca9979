"""Platforms compare once they are normalised."""

import pytest

from wherry.errors import InvalidArgument
from wherry.oci.platform import Platform, host, parse


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/i686", "linux/386"),
        ("linux/ppc64el", "linux/ppc64le"),
        ("macos/arm64", "darwin/arm64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
    ],
)
def test_parse(text: str, normalized: str) -> None:
    """All spellings of a platform mean one."""
    assert str(parse(text)) == normalized
    assert parse(text) == parse(normalized)


def test_os_only() -> None:
    """An operating system alone is that on this machine's architecture."""
    assert parse("linux") == host()


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/é", "nothing"])
def test_bad(text: str) -> None:
    """What is no platform is refused."""
    with pytest.raises(InvalidArgument, match="invalid argument"):
        parse(text)


def test_runs() -> None:
    """A machine runs its own platform, older variants of it, and 32-bit ones; nothing of another system."""
    assert Platform("linux", "amd64").runs(Platform("linux", "386"))
    assert Platform("linux", "arm64").runs(Platform("linux", "arm", "v7"))
    assert Platform("linux", "arm", "v7").runs(Platform("linux", "arm", "v6"))
    assert not Platform("linux", "arm", "v6").runs(Platform("linux", "arm", "v7"))
    assert not Platform("linux", "amd64").runs(Platform("linux", "amd64", "v3"))
    assert not Platform("linux", "amd64").runs(Platform("linux", "arm64"))
    assert not Platform("linux", "amd64").runs(Platform("windows", "amd64"))
