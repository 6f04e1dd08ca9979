"""The cgroup library on a kernel that offers every controller in the unified tree."""

import uuid
from collections.abc import Callable
from typing import Any

from tests.runtime_cgroups import scenario
from wherry.runtime.cgroups.hierarchies import mounted

DENIED = "Operation not permitted"


def _run(check: Callable[[str], Any]) -> Any:
    return check(f"/wherry-test-{uuid.uuid4().hex[:12]}/containers/one")


def check_hierarchies() -> None:
    """One tree with everything."""
    found = mounted()
    assert (found.mode, found.v1, found.v2) == ("v2", {}, "/sys/fs/cgroup")
    assert {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"} <= found.v2_controllers


def check_life() -> None:
    """Made, joined, frozen, thawed, killed, removed; removing twice is no error."""
    facts = _run(scenario.life)
    assert facts.pop("born_in") is not None
    assert facts == {
        "version": "v2",
        "mode": "v2",
        "listed": True,
        "everywhere": True,
        "stats": True,
        "again": True,
        "killed": 9,
        "empty": [],
        "gone": True,
        "not_found": True,
    }


def check_frozen_is_killed() -> None:
    """Four processes, frozen, all gone by one call."""
    assert _run(scenario.kill_frozen) == {"count": 4, "signal": 9, "left": []}


def check_busy() -> None:
    """EBUSY at the deadline, with the process that holds the branch."""
    assert _run(scenario.busy) == {"errno": 16, "named": True}


def check_devices() -> None:
    """The program decides as the rules say, and an update replaces it."""
    facts = _run(scenario.devices)
    nodes = {"/dev/null": "ok", "/dev/zero": "ok", "/dev/fuse": DENIED, "/dev/kmsg": DENIED, "mknod": "ok"}
    assert facts["first"] == nodes
    assert (facts["second"]["/dev/fuse"], facts["second"]["/dev/kmsg"]) == ("ok", DENIED)
    assert set(facts["third"].values()) == {DENIED}
    assert facts["programs"] == 1


def check_memory() -> None:
    """The OOM killer counts, and limits grow and shrink in any order."""
    facts = _run(scenario.memory)
    assert facts["signal"] == 9
    assert facts["oom"] >= 1
    assert facts["seen"] == [True, True, True]
    assert facts["unlimited"] is None


def check_every_limit() -> None:
    """What the kernel shows is what was asked, and updates take it back."""
    assert _run(scenario.limits_v2) == {
        "exit": 7,
        "shown": {
            "cpu.weight": "59",
            "cpu.max": "5000 10000",
            "cpuset.cpus": "0",
            "pids.max": "4",
            "memory.max": str(64 << 20),
            "memory.swap.max": str(32 << 20),
            "memory.low": str(16 << 20),
        },
        "after": {
            "cpu.max": "max 100000",
            "cpuset.cpus": "0",
            "pids.max": "max",
            "memory.max": "max",
            "memory.swap.max": "max",
            "memory.low": str(16 << 20),
        },
    }


def check_huge_pages() -> None:
    """A controller is handed down from the root to a branch two levels below, and limits there."""
    assert _run(scenario.delegated) == 4 << 20


def check_refusals() -> None:
    """A processor that is not there is named; a file that only v2 has is written."""
    facts = _run(scenario.refused)
    assert {facts[name] for name in ("memory", "pids", "cpu", "unified")} == {"ok"}, facts
    assert facts["cpuset"].startswith("KernelError: cpuset cpus cannot be applied")
