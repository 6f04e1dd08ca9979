"""Limits as plain writes, for v1 and v2."""

from typing import Any

import pytest

from wherry.errors import InvalidSpec, NotSupported
from wherry.runtime.cgroups import limits_v1, limits_v2
from wherry.runtime.cgroups.limits import Write

MIB = 1 << 20


def told(writes: list[Write]) -> list[tuple[str, str]]:
    return [(write.names[0], write.value) for write in writes]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (1, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 20, 10000)],
)
def test_shares_become_a_weight_of_which_the_default_is_the_default(shares: int, weight: int) -> None:
    """1024 shares weigh 100, the extremes stay extremes."""
    assert limits_v2.cpu_weight(shares) == weight


@pytest.mark.parametrize(("weight", "expected"), [(10, 1), (500, 4950), (1000, 10000)])
def test_block_io_weights_are_stretched(weight: int, expected: int) -> None:
    """10…1000 becomes 1…10000."""
    assert limits_v2.io_weight(weight) == expected


def test_v2_counts_swap_apart_from_memory() -> None:
    """v1's limit of memory and swap becomes a limit of swap alone."""
    found = limits_v2.writes({"memory": {"limit": 100 * MIB, "swap": 300 * MIB, "reservation": 50 * MIB}})
    assert told(found) == [
        ("memory.swap.max", str(200 * MIB)),
        ("memory.max", str(100 * MIB)),
        ("memory.low", str(50 * MIB)),
    ]


@pytest.mark.parametrize(
    ("memory", "swap", "expected"), [(100, 0, None), (100, -1, "max"), (100, 100, "0"), (-1, 0, "max"), (0, 0, None)]
)
def test_v2_swap_of_special_values(memory: int, swap: int, expected: str | None) -> None:
    """Unlimited, none and untold are three things."""
    assert limits_v2.swap_max(memory, swap) == expected


def test_v2_refuses_swap_below_memory() -> None:
    """Memory and swap together cannot be less than memory."""
    with pytest.raises(InvalidSpec, match="should be >= memory limit"):
        limits_v2.swap_max(200, 100)
    with pytest.raises(InvalidSpec, match="without a memory limit"):
        limits_v2.swap_max(0, 100)


def test_v2_cpu_quota_and_period_are_one_line() -> None:
    """A period alone says max, a quota alone takes the kernel's period."""
    assert told(limits_v2.writes({"cpu": {"quota": 50000, "period": 20000}})) == [("cpu.max", "50000 20000")]
    assert told(limits_v2.writes({"cpu": {"quota": 50000}})) == [("cpu.max", "50000 100000")]
    assert told(limits_v2.writes({"cpu": {"period": 20000, "quota": -1}})) == [("cpu.max", "max 20000")]


def test_v2_throttles_are_keyed_lines() -> None:
    """Each device and rate is one write to io.max."""
    found = limits_v2.writes({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 1000}]}})
    assert told(found) == [("io.max", "8:1 rbps=1000")]


def test_v2_unified_takes_controller_files_only() -> None:
    """A key with a slash, or of the core, could reach other cgroups."""
    assert told(limits_v2.writes({"unified": {"memory.high": "100"}})) == [("memory.high", "100")]
    for key in ("../memory.high", "cgroup.procs", "memory"):
        with pytest.raises(InvalidSpec):
            limits_v2.writes({"unified": {key: "1"}})


@pytest.mark.parametrize(
    ("limit", "swap", "current", "order"),
    [
        (100, 200, 1 << 63, ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
        (100, 200, 50, ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]),
        (100, -1, 1 << 63, ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]),
        (100, 0, 1 << 63, ["memory.limit_in_bytes"]),
        (-1, 0, 100, ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]),
    ],
)
def test_v1_memory_and_swap_in_an_order_the_kernel_takes(limit: int, swap: int, current: int, order: list[str]) -> None:
    """Growing writes memory+swap first, shrinking last: the limit is never above it in between."""
    found = limits_v1.memory_writes({"memory": {"limit": limit, "swap": swap}}, current)
    assert [write.names[0] for write in found] == order


def test_v1_writes_only_what_was_asked() -> None:
    """Nothing asked, nothing written; zero is nothing."""
    empty: dict[str, Any] = {"cpu": {"shares": 0}, "pids": {"limit": 0}, "memory": {"limit": 0}, "blockIO": {}}
    assert limits_v1.writes(empty) == []
    assert limits_v1.memory_writes(empty, None) == []


def test_v1_says_every_limit_of_the_specification() -> None:
    """Each member has its file."""
    found = limits_v1.writes(
        {
            "cpu": {"shares": 512, "quota": 5000, "period": 10000, "cpus": "0", "mems": "0"},
            "pids": {"limit": -1},
            "blockIO": {
                "weight": 100,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 50}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1024}],
            "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}},
        }
    )
    assert told(found) == [
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "10000"),
        ("cpu.cfs_quota_us", "5000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "max"),
        ("blkio.weight", "100"),
        ("blkio.weight_device", "8:0 50"),
        ("blkio.throttle.write_iops_device", "8:0 5"),
        ("hugetlb.2MB.limit_in_bytes", "1024"),
        ("net_cls.classid", "5"),
        ("net_prio.ifpriomap", "lo 1"),
        ("rdma.max", "mlx5_1 hca_handle=3"),
    ]


def test_v1_has_no_unified_files() -> None:
    """What only v2 has is not quietly dropped."""
    with pytest.raises(NotSupported, match="unified"):
        limits_v1.writes({"unified": {"memory.high": "1"}})


@pytest.mark.parametrize("value", ["1", 1.5, True, []])
def test_a_limit_that_is_no_integer_is_named(value: Any) -> None:
    """Booleans are no integers either."""
    with pytest.raises(InvalidSpec, match=r"linux\.resources\.pids\.limit"):
        limits_v1.writes({"pids": {"limit": value}})


def test_a_line_break_cannot_smuggle_a_second_write() -> None:
    """Text members are one line."""
    with pytest.raises(InvalidSpec, match="cpus"):
        limits_v1.writes({"cpu": {"cpus": "0\n1"}})
