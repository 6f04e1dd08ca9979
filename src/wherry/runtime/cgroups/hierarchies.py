"""Which control group hierarchies this mount namespace shows, and what sort of host that makes it (cgroups(7))."""

import os

# controllers of v1 that this project drives; others (perf_event, net_cls…) are joined, and limited when asked
_LIMITING = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "pids", "rdma")
V1_CONTROLLERS = frozenset((*_LIMITING, "net_cls", "net_prio", "perf_event"))
_MOUNTINFO = "/proc/self/mountinfo"


class Hierarchies:
    """What is mounted.

    Attributes:
        v1: controller (or `name=systemd`) -> mount point; co-mounted controllers share one.
        v2: mount point of the unified hierarchy, or None.
        v2_controllers: controllers that the unified root offers.
        shown: mount point -> which cgroup of its hierarchy is mounted there, where that is not the top one.
        mode: `v1` (no unified tree), `hybrid` (v1 controllers beside one), `v2`, or `none`.
    """

    __slots__ = ("mode", "shown", "v1", "v2", "v2_controllers")

    def __init__(
        self,
        v1: dict[str, str],
        v2: str | None,
        v2_controllers: frozenset[str] = frozenset(),
        shown: dict[str, str] | None = None,
    ) -> None:
        self.v1 = v1
        self.v2 = v2
        self.v2_controllers = v2_controllers
        self.shown = shown or {}
        if any(name in V1_CONTROLLERS for name in v1):
            self.mode = "hybrid" if v2 else "v1"
        elif v2:
            self.mode = "v2"
        else:
            self.mode = "none"

    def directories(self, text: str) -> list[str]:
        """The directories of a process's cgroups, one for each hierarchy that shows it here.

        A container in the host's cgroup namespace sees its own part of each tree, while the text gives paths from the
        tree's top.

        Args:
            text: a `/proc/<pid>/cgroup` text (cgroups(7)).
        """
        found = []
        for line in text.splitlines():
            _, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            point = self.v1.get(names.split(",")[0]) if names else self.v2
            if point is None:
                continue
            top = self.shown.get(point, "")
            if path == top or path.startswith(f"{top}/"):
                found.append(point + path[len(top) :].rstrip("/"))
        return found


def parse_shown(text: str) -> dict[str, str]:
    """Of a `/proc/<pid>/mountinfo` text: `Hierarchies.shown`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        left, _, tail = line.partition(" - ")
        fields = left.split(" ")
        if tail.startswith("cgroup") and len(fields) > 5 and fields[3] != "/":
            found[_unescape(fields[4])] = _unescape(fields[3])
        elif len(fields) > 5:
            found.pop(_unescape(fields[4]), None)  # a later mount hides an earlier one
    return found


def parse_mountinfo(text: str) -> tuple[dict[str, str], str | None]:
    """Pick the hierarchies out of a `/proc/<pid>/mountinfo` text: (v1 controller -> mount point, v2 mount point).

    A later mount on the same point hides an earlier one; of several mounts of one hierarchy the first writable stays.
    """
    places: dict[str, tuple[str, str, bool]] = {}
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        if not dash:
            continue
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 3:
            continue
        point = _unescape(fields[4])
        # whatever is mounted here hides what was here, and below, before
        places = {p: v for p, v in places.items() if p != point and not p.startswith(point + "/")}
        if tail[0] in ("cgroup", "cgroup2"):
            places[point] = (tail[0], tail[2], "ro" not in fields[5].split(","))
    v1: dict[str, str] = {}
    v2: str | None = None
    for point, (kind, options, _) in sorted(places.items(), key=lambda item: not item[1][2]):
        if kind == "cgroup2":
            v2 = v2 or point
            continue
        for option in options.split(","):
            if option in V1_CONTROLLERS or option.startswith("name="):
                v1.setdefault(option, point)
    return v1, v2


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


_seen: Hierarchies | None = None


def mounted(*, fresh: bool = False) -> Hierarchies:
    """The hierarchies of this process's mount namespace, read once; `fresh` reads again."""
    global _seen
    if _seen is None or fresh:
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        v1, v2 = parse_mountinfo(text)
        controllers: frozenset[str] = frozenset()
        if v2:
            try:
                with open(os.path.join(v2, "cgroup.controllers"), encoding="ascii") as file:
                    controllers = frozenset(file.read().split())
            except FileNotFoundError:
                # kernels before 4.5 called it cgroup2 too, without this file: nothing to drive there
                v2 = None
        _seen = Hierarchies(v1, v2, controllers, parse_shown(text))
    return _seen
