"""The cgroups of this host: where a branch lies, and which controllers there are.

Cgroup v1 and v2 name a few controllers differently; this module uses the names of v2 (cgroups(7)).
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TOP = Path("/sys/fs/cgroup")
# how the reason begins for which a test of a limit is skipped
REASON = "this host's cgroups do not offer"
_V2_NAMES = {"blkio": "io"}


def unified() -> bool:
    """Whether this host shows cgroup v2 alone."""
    return (TOP / "cgroup.controllers").exists()


def controllers() -> frozenset[str]:
    """The controllers that can limit a container here, by their v2 names."""
    if unified():
        return frozenset((TOP / "cgroup.controllers").read_text().split())
    return frozenset(_V2_NAMES.get(name, name) for path in hierarchies() for name in path.name.split(","))


def needs(*names: str) -> "pytest.MarkDecorator":
    """Skip a test of limits where a controller is missing: some kernels have cgroup v2 with its controllers left in v1.

    Args:
        names: controllers by their v2 names.
    """
    import pytest  # the virtual machine, which has this module too, has none

    missing = [name for name in names if name not in controllers()]
    return pytest.mark.skipif(bool(missing), reason=f"{REASON} {', '.join(missing)}")


def hierarchies() -> list[Path]:
    """The mount point of each hierarchy."""
    if unified() or not TOP.is_dir():
        return [TOP]
    # a link stands for one controller of several in a hierarchy
    return [path for path in sorted(TOP.iterdir()) if path.is_dir() and not path.is_symlink()]


def branches(path: str) -> list[Path]:
    """The directories of a branch such as `/a/b`, one for each hierarchy that has it."""
    return [found for top in hierarchies() if (found := top / path.strip("/")).is_dir()]


def processes(path: str) -> list[int]:
    """The processes of a branch and of those below it, in any hierarchy; each once."""
    found: set[int] = set()
    for top in branches(path):
        try:
            files = list(top.glob("**/cgroup.procs"))
        except FileNotFoundError:  # a directory went while it was looked through
            continue
        for procs in files:
            try:
                found.update(int(line) for line in procs.read_text().split())
            except OSError:
                continue  # the branch went, or is a threaded one
    return sorted(found - {0})
