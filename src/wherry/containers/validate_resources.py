"""Checking limits as dockerd does: what cannot be is refused, what this host cannot do is discarded with a warning."""

from wherry.errors import InvalidArgument
from wherry.runtime.cgroups.features import Features, cpu_list
from wherry.wire.containers import HostConfig

MINIMUM_MEMORY = 6 << 20
MINIMUM_SHARES, _MAXIMUM_SHARES = 2, 262144


def validate_resources(host: HostConfig, cpus: int, has: Features, *, update: bool = False) -> list[str]:
    """Check the limits in `host`, and set back what the host cannot do.

    Args:
        host: changed: memory+swap is filled in from memory, what is discarded is cleared.
        cpus: processors of the host.
        has: what its controllers offer.
        update: the limits change a container that is there, so that absent ones are what they were.

    Returns:
        Warnings.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    warnings: list[str] = []
    if host.memory > 0 and host.memory_swap == 0 and not update:
        host.memory_swap = host.memory * 2
    _memory(host, has, warnings, update=update)
    _oom(host, has, warnings)
    if host.pids_limit is not None and host.pids_limit <= 0:
        host.pids_limit = None
    if host.pids_limit is not None and host.pids_limit > 0 and "pids" not in has.names:
        warnings.append(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
        )
        host.pids_limit = None
    _cpu(host, cpus, has, warnings, update=update)
    _cpuset(host, has, warnings)
    _block_io(host, has, warnings)
    return warnings


def _memory(host: HostConfig, has: Features, warnings: list[str], *, update: bool) -> None:
    if host.memory != 0 and host.memory < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and "memory" not in has.names:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
        host.memory, host.memory_swap = 0, -1
    if host.memory > 0 and host.memory_swap != -1 and "swap" not in has.names:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        host.memory_swap = -1
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0 and not update:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness == -1:
        host.memory_swappiness = None
    if host.memory_swappiness is not None and host.memory_swappiness != -1:
        if "swappiness" not in has.names:
            warnings.append(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
                "Memory swappiness discarded."
            )
            host.memory_swappiness = None
        elif not 0 <= host.memory_swappiness <= 100:
            raise InvalidArgument(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.memory_reservation > 0 and "reservation" not in has.names:
        warnings.append(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. "
            "Limitation discarded."
        )
        host.memory_reservation = 0
    if 0 < host.memory_reservation < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def _oom(host: HostConfig, has: Features, warnings: list[str]) -> None:
    if not host.oom_kill_disable:
        return
    if "oom_kill_disable" not in has.names:
        warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        host.oom_kill_disable = None
    elif host.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )


def _cpu(host: HostConfig, cpus: int, has: Features, warnings: list[str], *, update: bool) -> None:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus > 0 and "cpu_quota" not in has.names:
        raise InvalidArgument(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if not 0 <= host.nano_cpus <= cpus * 1_000_000_000:
        raise InvalidArgument(f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_shares > 0 and "cpu_shares" not in has.names:
        warnings.append("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
        host.cpu_shares = 0
    if host.cpu_shares < 0 and update:
        raise InvalidArgument("shares: invalid argument")
    if 0 < host.cpu_shares < MINIMUM_SHARES and not update:
        raise InvalidArgument(f"the minimum allowed cpu-shares is {MINIMUM_SHARES}")
    if host.cpu_shares > _MAXIMUM_SHARES:
        raise InvalidArgument(f"the maximum allowed cpu-shares is {_MAXIMUM_SHARES}")
    if (host.cpu_period or host.cpu_quota) and "cpu_quota" not in has.names:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        host.cpu_period, host.cpu_quota = 0, 0
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and "cpu_realtime" not in has.names:
        raise InvalidArgument("Your kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    if host.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host.cpu_percent = 0


def _cpuset(host: HostConfig, has: Features, warnings: list[str]) -> None:
    if (host.cpuset_cpus or host.cpuset_mems) and "cpuset" not in has.names:
        warnings.append("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
        host.cpuset_cpus, host.cpuset_mems = "", ""
    for asked, available, short, long in (
        (host.cpuset_cpus, has.cpus, "cpus", "CPUs"),
        (host.cpuset_mems, has.mems, "mems", "memory nodes"),
    ):
        if not asked:
            continue
        try:
            wanted = cpu_list(asked)
        except ValueError:
            raise InvalidArgument(f"Invalid value {asked} for cpuset {short}: invalid format: {asked}") from None
        if not wanted <= cpu_list(available):
            raise InvalidArgument(f"Requested {long} are not available - requested {asked}, available: {available}")


def _block_io(host: HostConfig, has: Features, warnings: list[str]) -> None:
    if host.blkio_weight and "blkio_weight" not in has.names:
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        host.blkio_weight = 0
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if host.io_maximum_bandwidth:
        raise InvalidArgument("Invalid QoS settings: linux does not support configuration of maximum bandwidth")
    if host.io_maximum_iops:
        raise InvalidArgument("Invalid QoS settings: linux does not support configuration of maximum IOPs")
    if host.blkio_weight_device and "blkio_weight_device" not in has.names:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
        host.blkio_weight_device = None
    for what, attribute in (
        ("BPS Read", "blkio_device_read_bps"),
        ("BPS Write", "blkio_device_write_bps"),
        ("IOPS Read", "blkio_device_read_iops"),
        ("IOPS Write", "blkio_device_write_iops"),
    ):
        if getattr(host, attribute) and "blkio_throttle" not in has.names:
            noun = what.split(" ")[0]
            warnings.append(
                f"Your kernel does not support {what} Block I/O limit or the cgroup is not mounted. "
                f"Block I/O {noun} limit discarded."
            )
            setattr(host, attribute, None)
