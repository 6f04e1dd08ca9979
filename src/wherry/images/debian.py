"""Which Debian packages a bootstrap takes: the suites that can be had, and the machine's own mirrors for them."""

import asyncio
import os
from collections.abc import Sequence

_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"


class Suite:
    """A Debian release."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def known_suites() -> dict[str, Suite]:
    """Return the suites that a bootstrap makes, by name."""
    return {name: Suite(name) for name in ("bookworm", "trixie")}


async def apt_lines(suite: Suite) -> list[str]:
    """Return the lines of sources.list for a suite: the machine's own ones, or its mirrors with another suite.

    Where the machine names no Debian mirror at all, Debian's own are taken.
    """
    return source_lines(suite.name, _codename(), await _targets())


def source_lines(suite: str, codename: str, targets: Sequence[tuple[str, str, str]]) -> list[str]:
    """Choose lines from the machine's sources.

    Args:
        suite: the release that is wanted.
        codename: the machine's own release.
        targets: (URI, release, component) of what apt would fetch here.
    """
    mirrors: dict[str, str] = {}
    for base in dict.fromkeys((suite, codename)):
        for suffix in ("", "-updates", "-security"):
            for uri, release, component in targets:
                if release == base + suffix and component == "main":
                    mirrors.setdefault(suffix, uri.rstrip("/"))
    if "" not in mirrors:
        mirrors = {"": _MIRROR, "-updates": _MIRROR, "-security": _SECURITY}
    return [
        f"deb {uri} {suite}{suffix} main" for suffix, uri in sorted(mirrors.items(), key=lambda item: _ORDER[item[0]])
    ]


_ORDER = {"": 0, "-updates": 1, "-security": 2}


async def _targets() -> list[tuple[str, str, str]]:
    if not os.path.exists("/usr/bin/apt-get"):
        return []
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/apt-get",
        "indextargets",
        "--format",
        "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    found = []
    for line in output.decode("utf-8", "replace").splitlines():
        parts = line.split("|")
        if len(parts) == 4 and parts[0] == "Packages":
            found.append((parts[1], parts[2], parts[3]))
    return found


def _codename() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VERSION_CODENAME="):
                    return line.partition("=")[2].strip().strip('"')
    except FileNotFoundError:
        return ""
    return ""
