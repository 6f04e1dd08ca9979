"""Platforms: `os/architecture[/variant]` in Go's names, and what this machine is.

People write `x86_64`, `aarch64`, `armhf`; documents say `amd64`, `arm64`, `arm` with `v7`. Normalised, they compare.
"""

import os

from wherry.errors import InvalidArgument

# name of a machine or of a distribution's port -> Go's architecture and variant
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "ppc64el": ("ppc64le", ""),
    "loong64": ("loong64", ""),
    "loongarch64": ("loong64", ""),
}
_OS_ALIASES = {"macos": "darwin"}
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Platform:
    """An operating system, an architecture and, where it matters, a variant. Always normalised."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, system: str, architecture: str, variant: str = "") -> None:
        system, architecture, variant = system.lower(), architecture.lower(), variant.lower()
        self.os = _OS_ALIASES.get(system, system)
        alias, implied = _ALIASES.get(architecture, (architecture, ""))
        variant = variant or implied
        if variant[:1].isdigit():
            variant = "v" + variant
        # the variant that everybody means is not written
        if alias in ("arm64", "amd64") and variant == _DEFAULT_VARIANT[alias]:
            variant = ""
        if alias == "arm" and not variant:
            variant = "v7"
        self.architecture = alias
        self.variant = variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __repr__(self) -> str:
        return f"Platform({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def runs(self, other: "Platform") -> bool:
        """Whether this machine's platform runs images of `other` without help (32-bit ones on 64-bit, older ARM)."""
        if self.os != other.os:
            return False
        if self.architecture == other.architecture:
            return other.variant <= (self.variant or _DEFAULT_VARIANT.get(self.architecture, ""))
        if self.architecture == "amd64":
            return other.architecture == "386"
        return self.architecture == "arm64" and other.architecture == "arm"


def parse(value: str) -> Platform:
    """Parse `os`, `arch`, `os/arch` or `os/arch/variant`.

    Raises:
        InvalidArgument: not a platform; Docker's words.
    """
    parts = value.split("/")
    if len(parts) > 3:
        raise InvalidArgument(f'"{value}": cannot parse platform specifier: invalid argument')
    for part in parts:
        if not part or not _WORD.issuperset(part):
            raise InvalidArgument(
                f'"{part}" is an invalid component of "{value}": platform specifier component must match '
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) == 1:
        here = host()
        word = parts[0].lower()
        if _OS_ALIASES.get(word, word) in ("linux", "windows", "darwin", "freebsd"):
            return Platform(word, here.architecture, here.variant)
        known = _ALIASES.get(word, (word, ""))[0]
        if known in ("amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"):
            return Platform(here.os, word)
        raise InvalidArgument(f'"{value}": unknown operating system or architecture: invalid argument')
    return Platform(*parts)


def host() -> Platform:
    """Return the platform that this machine runs without emulation."""
    return Platform("linux", os.uname().machine)
