"""Control groups: one branch of every hierarchy for one container, whatever mix of v1 and v2 the host has.

    hierarchies.py   which hierarchies are mounted where (`/proc/self/mountinfo`)
    base.py          what every kind of cgroup can do: `Cgroup`
    limits.py        one limit, described: `Write`; the helpers that read an OCI `resources` object
    limits_v1.py     OCI resources -> v1 files       v1.py   the branch in v1 hierarchies
    limits_v2.py     OCI resources -> v2 files       v2.py   the directory in the unified hierarchy
    hybrid.py        v1 controllers, with the v2 tree for kill and for what only it can do
    devices.py       OCI device rules -> what the kernel is told (an allow or a deny list)
    device_program.py  the same list as an eBPF program, for v2
    stats.py         what was used, in one shape for both
    features.py      what this host's controllers offer (for warnings and `info`)

Paths are given relative to the root of each hierarchy: `/wherry/containers/<id>`.
"""

from wherry.errors import NotFound, NotSupported
from wherry.runtime.cgroups.base import Cgroup
from wherry.runtime.cgroups.hierarchies import Hierarchies, mounted
from wherry.runtime.cgroups.hybrid import HybridCgroup
from wherry.runtime.cgroups.v1 import V1Cgroup
from wherry.runtime.cgroups.v2 import V2Cgroup

__all__ = ["Cgroup", "open_cgroup", "open_existing", "version"]


def version(hierarchies: Hierarchies | None = None) -> str:
    """Which rules the host's controllers follow: `v1` (also beside an empty unified tree), `v2`, or `none`."""
    mode = (hierarchies or mounted()).mode
    return "v1" if mode == "hybrid" else mode


def open_cgroup(path: str, hierarchies: Hierarchies | None = None) -> Cgroup:
    """Name a branch; nothing is created until `create`.

    Args:
        path: absolute, relative to the root of each hierarchy; no `..`.
        hierarchies: what is mounted; by default what this process sees.

    Raises:
        NotSupported: no cgroup hierarchy is mounted.
        ValueError: the path is not absolute, is the root, or has a `..`.
    """
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or not path.strip("/"):
        raise ValueError(f"not a cgroup path: {path!r}")
    clean = "/" + "/".join(p for p in parts if p and p != ".")
    found = hierarchies or mounted()
    if found.mode == "v2":
        return V2Cgroup(clean, found)
    if found.mode == "hybrid":
        return HybridCgroup(clean, found)
    if found.mode == "v1":
        return V1Cgroup(clean, found)
    raise NotSupported("no control group hierarchy is mounted on this host")


def open_existing(path: str, hierarchies: Hierarchies | None = None) -> Cgroup:
    """As `open_cgroup`, for a branch that is there.

    Raises:
        NotFound: no hierarchy has such a directory.
    """
    cgroup = open_cgroup(path, hierarchies)
    if not cgroup.exists():
        raise NotFound(f"no such control group: {path}", path=path)
    return cgroup
