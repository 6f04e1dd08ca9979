"""OCI resources as files of the v1 controllers (the kernel's admin-guide/cgroup-v1)."""

from wherry.errors import NotSupported
from wherry.runtime.cgroups.limits import Write, items, number, section, text
from wherry.runtime.cgroups.limits_shared import cpuset, device, pids, rdma

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

UNLIMITED = -1


def writes(resources: "Mapping[str, Any]") -> "list[Write]":
    """Everything but memory (whose order depends on what is set, see `memory_writes`) and devices.

    Raises:
        InvalidSpec: a member has the wrong type.
        NotSupported: `unified` is asked for, which v1 does not have.
    """
    if section(resources, "unified"):
        raise NotSupported("resources.unified cannot be applied: this host runs cgroup v1 controllers")
    found: list[Write] = []
    found += _cpu(section(resources, "cpu"))
    found += pids(section(resources, "pids"))
    found += _blkio(section(resources, "blockIO"))
    found += _huge(resources)
    found += _network(section(resources, "network"))
    found += rdma(section(resources, "rdma"))
    return found


def memory_writes(resources: "Mapping[str, Any]", current_limit: "int | None") -> "list[Write]":
    """The memory files in an order that the kernel accepts.

    The limit may never exceed memory+swap: growing writes memory+swap first, shrinking writes it last.

    Args:
        resources: the OCI object.
        current_limit: `memory.limit_in_bytes` as it is now.
    """
    memory = section(resources, "memory")
    limit, swap = number(memory, "limit", "memory"), number(memory, "swap", "memory")
    if limit == UNLIMITED and not swap:
        swap = UNLIMITED
    found: list[Write] = []
    limit_write = Write("memory", "memory.limit_in_bytes", limit, "the memory limit") if limit else None
    swap_write = Write("memory", "memory.memsw.limit_in_bytes", swap, "the memory+swap limit") if swap else None
    if limit_write and swap_write:
        grows = swap == UNLIMITED or current_limit is None or (swap is not None and current_limit < swap)
        # a fresh cgroup is unlimited: both limits are then below what is set, and memory goes first
        found += [swap_write, limit_write] if grows else [limit_write, swap_write]
    elif limit_write or swap_write:
        found.append(limit_write or swap_write)  # type: ignore[arg-type]
    for member, name, what in (
        ("reservation", "memory.soft_limit_in_bytes", "the memory reservation"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", "the kernel TCP memory limit"),
    ):
        value = number(memory, member, "memory")
        if value:
            found.append(Write("memory", name, value, what))
    swappiness = number(memory, "swappiness", "memory")
    if swappiness is not None and swappiness != UNLIMITED:
        found.append(Write("memory", "memory.swappiness", swappiness, "memory swappiness"))
    if memory.get("disableOOMKiller"):
        found.append(Write("memory", "memory.oom_control", 1, "disabling the OOM killer"))
    return found


def _cpu(cpu: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    for member, controller, name, what in (
        ("shares", "cpu", "cpu.shares", "CPU shares"),
        ("realtimePeriod", "cpu", "cpu.rt_period_us", "the CPU real-time period"),
        ("realtimeRuntime", "cpu", "cpu.rt_runtime_us", "the CPU real-time runtime"),
        ("period", "cpu", "cpu.cfs_period_us", "the CPU CFS period"),
        ("quota", "cpu", "cpu.cfs_quota_us", "the CPU CFS quota"),
        ("burst", "cpu", "cpu.cfs_burst_us", "the CPU CFS burst"),
    ):
        value = number(cpu, member, "cpu")
        if value:
            found.append(Write(controller, name, value, what))
    idle = number(cpu, "idle", "cpu")
    if idle is not None:
        found.append(Write("cpu", "cpu.idle", idle, "CPU idle"))
    return found + cpuset(cpu)


def _blkio(blkio: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    weight = number(blkio, "weight", "blockIO")
    if weight:
        found.append(Write("blkio", ("blkio.weight", "blkio.bfq.weight"), weight, "the block I/O weight"))
    leaf = number(blkio, "leafWeight", "blockIO")
    if leaf:
        found.append(Write("blkio", ("blkio.leaf_weight", "blkio.bfq.leaf_weight"), leaf, "the block I/O leaf weight"))
    for item in items(blkio, "weightDevice", "blockIO"):
        value = number(item, "weight", "blockIO.weightDevice")
        if value:
            names = ("blkio.weight_device", "blkio.bfq.weight_device")
            found.append(Write("blkio", names, f"{device(item)} {value}", "a block device's weight"))
    for member, name in (
        ("throttleReadBpsDevice", "read_bps"),
        ("throttleWriteBpsDevice", "write_bps"),
        ("throttleReadIOPSDevice", "read_iops"),
        ("throttleWriteIOPSDevice", "write_iops"),
    ):
        for item in items(blkio, member, "blockIO"):
            rate = number(item, "rate", f"blockIO.{member}") or 0
            value_text = f"{device(item)} {rate}"
            found.append(Write("blkio", f"blkio.throttle.{name}_device", value_text, f"the {name} limit of a device"))
    return found


def _huge(resources: "Mapping[str, Any]") -> "list[Write]":
    return [
        Write(
            "hugetlb",
            f"hugetlb.{text(item, 'pageSize', 'hugepageLimits')}.limit_in_bytes",
            number(item, "limit", "hugepageLimits") or 0,
            "a huge page limit",
        )
        for item in items(resources, "hugepageLimits", "hugepageLimits")
    ]


def _network(network: "Mapping[str, Any]") -> "list[Write]":
    found: list[Write] = []
    class_id = number(network, "classID", "network")
    if class_id:
        found.append(Write("net_cls", "net_cls.classid", class_id, "the network class"))
    for item in items(network, "priorities", "network"):
        value = f"{text(item, 'name', 'network')} {number(item, 'priority', 'network') or 0}"
        found.append(Write("net_prio", "net_prio.ifpriomap", value, "a network priority"))
    return found
