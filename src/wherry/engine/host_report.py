"""What this host can do, as `GET /info` reports it: limits, warnings, listeners, proxies. Reads; changes nothing."""

import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from wherry.config import EngineConfig
from wherry.containers.context import Machine
from wherry.runtime.cgroups.features import Features

# `info` key -> (feature of `runtime.cgroups.features`, what dockerd's warning calls it; empty: it has none)
_LIMITS = {
    "MemoryLimit": ("memory", "memory limit"),
    "SwapLimit": ("swap", "swap limit"),
    "CpuCfsQuota": ("cpu_quota", "cpu cfs quota"),
    "CpuCfsPeriod": ("cpu_quota", "cpu cfs period"),
    "CPUShares": ("cpu_shares", "cpu shares"),
    "CPUSet": ("cpuset", "cpuset"),
    "PidsLimit": ("pids", ""),
}
# features without a key of their own, which dockerd mentions in its warnings only, by the version of cgroups; weights
# are not mentioned on v1, because no kernel since 5.0 has them there
_UNKEYED = {
    "v1": {
        "blkio_throttle": [
            f"blkio throttle.{what}_device" for what in ("read_bps", "write_bps", "read_iops", "write_iops")
        ]
    },
    "v2": {
        "blkio_weight": ["io.weight"],
        "blkio_weight_device": ["io.weight (per device)"],
        "blkio_throttle": [f"io.max ({what})" for what in ("rbps", "wbps", "riops", "wiops")],
    },
}
_OPEN = (
    "WARNING: API is accessible on {}.\n"
    "         Access to the remote API is equivalent to root access on the host. Refer\n"
    "         to the 'Docker daemon attack surface' section in the documentation for\n"
    "         more information: https://docs.docker.com/go/attack-surface/"
)


def limits(machine: Machine, has: Features) -> dict[str, bool]:
    """Return the keys of `info` that say which limits a container can have here.

    Args:
        machine: names the cgroup version; on v2 nothing can disable the OOM killer.
        has: what the controllers offer.
    """
    found = {key: feature in has.names for key, (feature, _) in _LIMITS.items()}
    return {**found, "OomKillDisable": machine.cgroup_version != "v2" and "oom_kill_disable" in has.names}


def forwards_ipv4() -> bool:
    """Tell whether this network namespace forwards IPv4 packets."""
    try:
        with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def open_addresses(config: EngineConfig) -> list[str]:
    """Return where the API can be reached without a client certificate, in the words of dockerd's warning."""
    if config.tlsverify:
        return []
    how = "https://{} without TLS client verification" if config.speaks_tls else "http://{} without encryption"
    return [how.format(text.removeprefix("tcp://")) for text in config.hosts if text.startswith("tcp://")]


def warnings(
    machine: Machine, has: Features, unguarded: Iterable[str], others: Iterable[str], *, forwarding: bool
) -> list[str] | None:
    """Return what a user should know about this host, in dockerd's words; None where all is well.

    Args:
        machine, has: see `limits`.
        unguarded: see `open_addresses`.
        others: warnings about the configuration and the network, in words.
        forwarding: whether the host forwards IPv4.
    """
    found = [_OPEN.format(text) for text in unguarded]
    offered = limits(machine, has)
    found += [f"WARNING: No {words} support" for key, (_, words) in _LIMITS.items() if words and not offered[key]]
    if not offered["OomKillDisable"] and machine.cgroup_version != "v2":
        found.append("WARNING: No oom kill disable support")
    for feature, names in _UNKEYED["v2" if machine.cgroup_version == "v2" else "v1"].items():
        if feature not in has.names:
            found += [f"WARNING: No {words} support" for words in names]
    if not forwarding:
        found.append("WARNING: IPv4 forwarding is disabled")
    found += [f"WARNING: {text}" for text in others]
    return found or None


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies through which this engine reaches registries, without their credentials.

    Args:
        environment: as programs in Go read it, either case; wherryd puts daemon.json's `proxies` there.
    """
    found = {}
    for key, name in (("HttpProxy", "HTTP_PROXY"), ("HttpsProxy", "HTTPS_PROXY"), ("NoProxy", "NO_PROXY")):
        found[key] = _masked(environment.get(name) or environment.get(name.lower()) or "")
    return found


def _masked(address: str) -> str:
    """A proxy's address with `xxxxx` in the place of user and password, as dockerd shows it."""
    if "@" not in address:
        return address
    try:
        host = urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        return address
    scheme, _, rest = address.partition("://")
    return f"{scheme}://xxxxx:xxxxx@{host}{rest[rest.index(host) + len(host) :]}" if rest else address


def security_options(config: EngineConfig, machine: Machine) -> list[str]:
    """Return `SecurityOptions`: how a container is confined where it does not say otherwise."""
    profile = config.seccomp_profile
    found = [f"name=seccomp,profile={'builtin' if profile in ('', 'builtin') else profile}"]
    if config.userns_remap:
        found.append("name=userns")
    if machine.cgroup_version == "v2":
        found.append("name=cgroupns")
    if config.no_new_privileges:
        found.append("name=no-new-privileges")
    return found


def threads() -> int:
    """Return how many threads this engine runs; dockerd counts goroutines."""
    return len(os.listdir("/proc/self/task"))


def network_settings(config: EngineConfig) -> dict[str, Any]:
    """Return the keys of `info` about networks that are there only when they are configured."""
    pools = config.default_address_pools
    return {"DefaultAddressPools": [{"Base": pool["base"], "Size": pool["size"]} for pool in pools]} if pools else {}
