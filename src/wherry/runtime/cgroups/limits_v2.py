"""OCI resources as files of the unified hierarchy (the kernel's admin-guide/cgroup-v2).

OCI resources speak v1; the conversions are the ones every runtime agrees on, so that a number means the same here.
"""

import math

from wherry.errors import InvalidSpec
from wherry.runtime.cgroups.limits import Write, items, number, section, text
from wherry.runtime.cgroups.limits_shared import cpuset, device, pids, rdma

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

UNLIMITED = -1


def cpu_weight(shares: int) -> int:
    """`cpu.weight` (1 to 10000) for v1 shares (2 to 262144).

    A quadratic fit through minimum, default and maximum, in logarithms: 1024 shares are weight 100, so that a
    container with default shares weighs what a process outside of any container does.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612.0 - 7.0 / 34.0))


def io_weight(weight: int) -> int:
    """`io.weight` (1 to 10000) for a blkio weight (10 to 1000), linear."""
    return 1 + (weight - 10) * 9999 // 990


def swap_max(memory: int, swap: int) -> "str | None":
    """`memory.swap.max` for v1's limit of memory *and* swap; None leaves it alone.

    Raises:
        InvalidSpec: memory+swap is below memory.
    """
    if swap == 0:
        # v1 without a memory+swap limit, memory unlimited: swap is unlimited too
        return "max" if memory == UNLIMITED else None
    if swap == UNLIMITED:
        return "max"
    if memory in (0, UNLIMITED):
        raise InvalidSpec("memory+swap limit without a memory limit")
    if swap < memory:
        raise InvalidSpec("memory+swap limit should be >= memory limit")
    return str(swap - memory)


def writes(resources: "Mapping[str, Any]") -> "list[Write]":
    """Everything but devices, in the order in which it is written.

    Raises:
        InvalidSpec: a member has the wrong type, or values contradict each other.
    """
    return [
        *_memory(section(resources, "memory")),
        *_cpu(section(resources, "cpu")),
        *pids(section(resources, "pids")),
        *_io(section(resources, "blockIO")),
        *_huge(resources),
        *rdma(section(resources, "rdma")),
        *_unified(section(resources, "unified")),
    ]


def _limit(value: int) -> "str | int":
    return "max" if value == UNLIMITED else value


def _memory(memory: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    limit, swap = number(memory, "limit", "memory") or 0, number(memory, "swap", "memory") or 0
    swap_value = swap_max(limit, swap)
    # without swap accounting there is no such file; a limit of no swap at all is then already so
    if swap_value is not None:
        found.append(Write("memory", "memory.swap.max", swap_value, "the memory+swap limit"))
    if limit:
        found.append(Write("memory", "memory.max", _limit(limit), "the memory limit"))
    reservation = number(memory, "reservation", "memory")
    if reservation:
        found.append(Write("memory", "memory.low", _limit(reservation), "the memory reservation"))
    return found


def _cpu(cpu: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    shares = number(cpu, "shares", "cpu")
    if shares:
        found.append(Write("cpu", "cpu.weight", cpu_weight(shares), "CPU shares"))
    idle = number(cpu, "idle", "cpu")
    if idle is not None:
        found.append(Write("cpu", "cpu.idle", idle, "CPU idle"))
    quota, period = number(cpu, "quota", "cpu"), number(cpu, "period", "cpu")
    if quota or period:
        value = "max" if not quota or quota < 0 else str(quota)
        found.append(Write("cpu", "cpu.max", f"{value} {period or 100000}", "the CPU limit"))
    burst = number(cpu, "burst", "cpu")
    if burst:
        found.append(Write("cpu", "cpu.max.burst", burst, "the CPU burst"))
    return found + cpuset(cpu)


def _io(blkio: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    weight = number(blkio, "weight", "blockIO")
    if weight:
        # the two files have different ranges; BFQ's takes blkio weights as they are
        what = "the block I/O weight"
        found.append(Write("io", "io.bfq.weight", weight, what, Write("io", "io.weight", io_weight(weight), what)))
    for item in items(blkio, "weightDevice", "blockIO"):
        value = number(item, "weight", "blockIO.weightDevice")
        if value:
            found.append(Write("io", "io.bfq.weight", f"{device(item)} {value}", "a block device's weight"))
    for member, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for item in items(blkio, member, "blockIO"):
            rate = number(item, "rate", f"blockIO.{member}") or "max"
            found.append(Write("io", "io.max", f"{device(item)} {key}={rate}", f"the {key} limit of a device"))
    return found


def _huge(resources: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    for item in items(resources, "hugepageLimits", "hugepageLimits"):
        size, limit = text(item, "pageSize", "hugepageLimits"), number(item, "limit", "hugepageLimits") or 0
        found.append(Write("hugetlb", f"hugetlb.{size}.max", limit, "a huge page limit"))
    return found


def _unified(unified: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    for name in unified:
        if "/" in name or "." not in name or name.startswith("cgroup."):
            raise InvalidSpec(f"linux.resources.unified: {name!r} is not a controller's file")
        lines = unified[name]
        if not isinstance(lines, str):
            raise InvalidSpec(f"linux.resources.unified.{name}: not text")
        # multi-line files take one line a write
        found += [Write(name.split(".")[0], name, line, f"unified {name}") for line in lines.splitlines() if line]
    return found
