"""Cgroups of the kernel that runs: the host's layout, v1 alone, v2 alone. `tests/vm` has every controller in v2."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups import controllers, unified
from wherry.runtime.cgroups.features import features
from wherry.runtime.cgroups.hierarchies import mounted

pytestmark = pytest.mark.root

SCENARIO = Path(__file__).parent / "scenario.py"
SOURCE = Path(__file__).parents[2] / "src"
# how a mount namespace is made to show one kind of hierarchy
VIEWS = {
    "host": "",
    "v1": f"umount {mounted().v2} && " if mounted().mode == "hybrid" else "",
    "v2": "" if unified() else "mount -t cgroup2 none /sys/fs/cgroup && ",
}

Run = Callable[[str], Any]


def _runner(view: str) -> Run:
    def run(scenario: str) -> Any:
        branch = f"/wherry-test-{uuid.uuid4().hex[:12]}/containers/one"
        script = f'{VIEWS[view]}exec "$0" "$@"'
        ran = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, sys.executable, str(SCENARIO), scenario, branch],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        try:
            assert ran.returncode == 0, ran.stderr
            return json.loads(ran.stdout)
        finally:
            _sweep(branch.split("/")[1])

    return run


def _sweep(name: str) -> None:
    """Remove the test's empty parent from every hierarchy."""
    roots = {*mounted().v1.values(), *([mounted().v2] if mounted().v2 else [])}
    for root in roots:
        for path in (Path(f"{root}/{name}/containers"), Path(f"{root}/{name}")):
            if path.is_dir():
                path.rmdir()


@pytest.fixture(params=list(VIEWS))
def view(request: pytest.FixtureRequest) -> str:
    if request.param == "v1" and mounted().mode not in ("v1", "hybrid"):
        pytest.skip("this host has no v1 controllers")
    return str(request.param)


def _version(view: str) -> str:
    """The version of cgroups that a view shows."""
    return "v2" if view == "v2" or unified() else "v1"


@pytest.fixture
def run(view: str) -> Run:
    return _runner(view)


@pytest.fixture
def on_v1() -> Run:
    if mounted().mode not in ("v1", "hybrid"):
        pytest.skip("this host has no v1 controllers")
    return _runner("host")


def test_the_life_of_a_cgroup(run: Run, view: str) -> None:
    """Made, joined in every hierarchy, frozen, thawed, killed, removed; removing twice is no error."""
    facts = run("life")
    assert facts.pop("version") == _version(view)
    facts.pop("mode")
    assert (facts.pop("born_in") is not None) == (_version(view) == "v2")
    assert facts == {
        "listed": True,
        "everywhere": True,
        "stats": True,
        "again": True,
        "killed": 9,
        "empty": [],
        "gone": True,
        "not_found": True,
    }


def test_what_is_frozen_can_be_killed(run: Run) -> None:
    """Four processes, frozen, all gone by one call."""
    assert run("kill_frozen") == {"count": 4, "signal": 9, "left": []}


def test_a_busy_branch_is_not_removed(run: Run) -> None:
    """EBUSY at the deadline, with the process that holds it; inner cgroups do not stand in the way."""
    assert run("busy") == {"errno": 16, "named": True}


def test_an_empty_branch_goes_also_late(run: Run) -> None:
    """Children that are empty are removed, and then the branch, though the deadline has passed meanwhile."""
    assert run("late") is False


def test_device_rules_hold(run: Run, view: str) -> None:
    """By v1's files and by the v2 program alike; an update replaces them."""
    facts = run("devices")
    denied = "Operation not permitted"
    assert facts["first"] == {
        "/dev/null": "ok",
        "/dev/zero": "ok",
        "/dev/fuse": denied,
        "/dev/kmsg": denied,
        "mknod": "ok",
    }
    assert facts["second"]["/dev/fuse"] == "ok"
    assert facts["second"]["/dev/kmsg"] == denied
    assert set(facts["third"].values()) == {denied}
    assert facts["programs"] == (1 if _version(view) == "v2" else None)


def test_memory_limits(on_v1: Run) -> None:
    """The OOM killer counts, and limits are changed in an order that the kernel takes."""
    facts = on_v1("memory")
    assert facts["signal"] == 9
    assert facts["oom"] >= 1
    assert facts["seen"] == [True, True, True]
    assert facts["unlimited"] is None


def test_cpu_and_pids_limits(on_v1: Run) -> None:
    """What the kernel shows is what was asked; the fifth process is refused."""
    assert on_v1("limits") == {
        "exit": 7,
        "pids": 4,
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "5000",
        "cpu.cfs_period_us": "10000",
        "cpuset.cpus": "0",
    }


def test_what_v1_cannot_do_is_named(on_v1: Run) -> None:
    """A processor that is not there, and files that only v2 has."""
    facts = on_v1("refused")
    assert facts["memory"] == facts["pids"] == facts["cpu"] == "ok"
    assert facts["cpuset"].startswith("KernelError: cpuset cpus cannot be applied")
    assert facts["unified"].startswith("NotSupported: resources.unified cannot be applied")


def test_controllers_that_v2_does_not_offer_are_named() -> None:
    """A limit without its controller fails, never silently."""
    facts = _runner("v2")("refused")
    for name in ("memory", "pids", "cpu"):
        if facts[name] != "ok":
            assert f"this host does not offer the {name} cgroup controller" in facts[name]
    if mounted().mode == "hybrid":
        assert facts["memory"] == (
            "NotSupported: the memory limit cannot be applied: this host does not offer the memory cgroup controller"
        )


@pytest.mark.parametrize("shown", ["host", "v2"])
def test_controllers_are_handed_down(shown: str) -> None:
    """From the root to a branch two levels below, and on a hybrid host through the v2 tree."""
    if "hugetlb" not in mounted().v2_controllers:
        pytest.skip("no v2 tree with huge pages here")
    assert _runner(shown)("delegated") == 4 << 20


def test_making_and_joining_is_quick(run: Run) -> None:
    """Well below the time of anything else in a start (the bound is generous: the machine is shared)."""
    assert run("speed") < 15


def test_the_tests_and_the_engine_see_the_same_controllers() -> None:
    """Otherwise a limit that the engine cannot apply would be a test that is skipped."""
    offered = features(mounted()).names
    for name in ("memory", "pids", "cpuset"):
        assert (name in controllers()) == (name in offered), name
