"""What this host's controllers offer: for warnings at create, and for `info`. Looked up once a process."""

import os

from wherry.runtime.cgroups.files import read_or
from wherry.runtime.cgroups.hierarchies import Hierarchies, mounted

# feature -> (v1 controller, its files of which one must exist)
_V1 = {
    "memory": ("memory", ("memory.limit_in_bytes",)),
    "swap": ("memory", ("memory.memsw.limit_in_bytes",)),
    "reservation": ("memory", ("memory.soft_limit_in_bytes",)),
    "swappiness": ("memory", ("memory.swappiness",)),
    "oom_kill_disable": ("memory", ("memory.oom_control",)),
    "cpu_shares": ("cpu", ("cpu.shares",)),
    "cpu_quota": ("cpu", ("cpu.cfs_quota_us",)),
    "cpu_realtime": ("cpu", ("cpu.rt_period_us",)),
    "cpuset": ("cpuset", ("cpuset.cpus",)),
    "blkio_weight": ("blkio", ("blkio.weight", "blkio.bfq.weight")),
    "blkio_weight_device": ("blkio", ("blkio.weight_device", "blkio.bfq.weight_device")),
    "blkio_throttle": ("blkio", ("blkio.throttle.read_bps_device",)),
    "pids": ("pids", ("cgroup.procs",)),
    "devices": ("devices", ("devices.allow",)),
    "freezer": ("freezer", ("cgroup.procs",)),
}
# feature -> v2 controller (empty: the core has it)
_V2 = {
    "memory": "memory",
    "swap": "memory",
    "reservation": "memory",
    "cpu_shares": "cpu",
    "cpu_quota": "cpu",
    "cpuset": "cpuset",
    "blkio_weight": "io",
    "blkio_weight_device": "io",
    "blkio_throttle": "io",
    "pids": "pids",
    "devices": "",
    "freezer": "",
}


class Features:
    """The host's abilities.

    Attributes:
        names: features that are there, see the tables of this module.
        cpus: processors that a container may be given (`0-3,8`).
        mems: memory nodes, likewise.
    """

    __slots__ = ("cpus", "mems", "names")

    def __init__(self, names: "frozenset[str]", cpus: str, mems: str) -> None:
        self.names = names
        self.cpus = cpus
        self.mems = mems


_seen: "Features | None" = None


def features(hierarchies: "Hierarchies | None" = None) -> Features:
    """Look the host over; without an argument the answer is kept."""
    global _seen
    if hierarchies is not None:
        return _look(hierarchies)
    if _seen is None:
        _seen = _look(mounted())
    return _seen


def _look(found: Hierarchies) -> Features:
    names = set()
    if found.mode == "v2":
        names = {name for name, controller in _V2.items() if not controller or controller in found.v2_controllers}
        # the root has no swap file: swap is counted unless the kernel was told not to
        if "swapaccount=0" in read_or("/proc/cmdline").split():
            names.discard("swap")
        cpuset, suffix = found.v2 or "", ".effective"
    else:
        for name, (controller, files) in _V1.items():
            root = found.v1.get(controller)
            if root and any(os.path.exists(f"{root}/{file}") for file in files):
                names.add(name)
        cpuset, suffix = found.v1.get("cpuset", ""), ""
    cpus = read_or(f"{cpuset}/cpuset.cpus{suffix}") or read_or("/sys/devices/system/cpu/online")
    mems = read_or(f"{cpuset}/cpuset.mems{suffix}") or read_or("/sys/devices/system/node/online", "0")
    return Features(frozenset(names), cpus.strip(), mems.strip())


def cpu_list(text: str) -> "frozenset[int]":
    """Numbers of a list such as `0-2,7`.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not (low.isascii() and low.isdigit()) or (dash and not (high.isascii() and high.isdigit())):
            raise ValueError(f"not a list of numbers: {text!r}")
        first, last = int(low), int(high) if dash else int(low)
        # far more than any machine has: a range is not a way to fill memory
        if last < first or last > 1 << 16:
            raise ValueError(f"not a list of numbers: {text!r}")
        found.update(range(first, last + 1))
    return frozenset(found)
