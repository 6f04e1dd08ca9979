"""Cgroup limits as `linux.resources` words them (all but devices)."""

from collections.abc import Sequence
from typing import Any

from wherry.containers.spec.devices import HostDevices
from wherry.wire.containers import HostConfig, ThrottleDevice

CPU_PERIOD = 100_000


def resources(host: HostConfig, devices: HostDevices) -> dict[str, Any]:
    """The limits that were asked for; what was not asked is absent.

    Args:
        host: after `validate` (memory+swap filled in, what the host cannot do discarded).
        devices: finds the numbers of block devices.

    Raises:
        InvalidArgument: a block device that is not there.
    """
    parts = {
        "memory": memory(host),
        "cpu": cpu(host),
        "pids": {"limit": host.pids_limit} if host.pids_limit and host.pids_limit > 0 else {},
        "blockIO": block_io(host, devices),
    }
    return {name: part for name, part in parts.items() if part}


def memory(host: HostConfig) -> dict[str, Any]:
    """Memory limits in bytes. A limit of memory and swap that is absent or -1 is none."""
    found: dict[str, Any] = {}
    if host.memory > 0:
        found["limit"] = host.memory
    if host.memory_reservation > 0:
        found["reservation"] = host.memory_reservation
    if host.memory_swap > 0:
        found["swap"] = host.memory_swap
    if host.memory_swappiness is not None and host.memory_swappiness >= 0:
        found["swappiness"] = host.memory_swappiness
    if host.oom_kill_disable:
        found["disableOOMKiller"] = True
    return found


def cpu(host: HostConfig) -> dict[str, Any]:
    """Processor limits; `--cpus` becomes a quota of a period of 100 ms."""
    found: dict[str, Any] = {}
    if host.cpu_shares > 0:
        found["shares"] = host.cpu_shares
    if host.nano_cpus > 0:
        found["quota"] = host.nano_cpus * CPU_PERIOD // 1_000_000_000
        found["period"] = CPU_PERIOD
    if host.cpu_period:
        found["period"] = host.cpu_period
    if host.cpu_quota:
        found["quota"] = host.cpu_quota
    if host.cpu_realtime_period:
        found["realtimePeriod"] = host.cpu_realtime_period
    if host.cpu_realtime_runtime:
        found["realtimeRuntime"] = host.cpu_realtime_runtime
    if host.cpuset_cpus:
        found["cpus"] = host.cpuset_cpus
    if host.cpuset_mems:
        found["mems"] = host.cpuset_mems
    return found


def block_io(host: HostConfig, devices: HostDevices) -> dict[str, Any]:
    """Block device weights and rates."""
    found: dict[str, Any] = {}
    if host.blkio_weight:
        found["weight"] = host.blkio_weight
    if host.blkio_weight_device:
        weights = []
        for item in host.blkio_weight_device:
            major, minor = devices.number(item.path)
            weights.append({"major": major, "minor": minor, "weight": item.weight})
        found["weightDevice"] = weights
    for name, throttles in (
        ("throttleReadBpsDevice", host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", host.blkio_device_write_iops),
    ):
        if throttles:
            found[name] = _rates(throttles, devices)
    return found


def _rates(throttles: Sequence[ThrottleDevice], devices: HostDevices) -> list[dict[str, int]]:
    found = []
    for item in throttles:
        major, minor = devices.number(item.path)
        found.append({"major": major, "minor": minor, "rate": item.rate})
    return found
