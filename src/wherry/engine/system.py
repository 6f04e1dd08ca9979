"""`engine.system`: what this engine is, and what it runs on."""

import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import wherry
from wherry import __version__
from wherry.config_checks import LOG_DRIVERS, RUNTIMES
from wherry.containers.context import Context
from wherry.engine import host_report
from wherry.engine.disk_usage import DiskUsage
from wherry.linux import loopwatch
from wherry.linux.background import background
from wherry.runtime.cgroups.features import features
from wherry.values import times

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"


class System:
    """Version, information and ping.

    Args:
        context: the containers' wiring, for counts and settings.
        image_count: says how many images there are.
        registries: gives Docker's `RegistryConfig`.
        disk_usage: what `df` asks.
        watching: says how many clients follow the event stream.
        troubles: says what hinders the network, in words, for `Warnings`.
    """

    def __init__(
        self,
        context: Context,
        image_count: Callable[[], int],
        registries: Callable[[], dict[str, object]],
        disk_usage: DiskUsage,
        watching: Callable[[], int],
        troubles: Callable[[], list[str]],
    ) -> None:
        self._context = context
        self._image_count = image_count
        self._registries = registries
        self._disk_usage = disk_usage
        self._watching = watching
        self._troubles = troubles
        self._id = _machine_id()

    async def ping(self) -> str:
        """Answer."""
        return "OK"

    async def df(self, types: Iterable[str], version: tuple[int, ...]) -> dict[str, Any]:
        """What lies on the disk: see `disk_usage`."""
        return await self._disk_usage.report(types, version)

    async def version(self) -> dict[str, Any]:
        """Docker's version JSON; the engine names itself."""
        details = {
            "ApiVersion": API_VERSION,
            "Arch": _go_arch(),
            "BuildTime": _built(),
            "Experimental": "true" if self._context.config.experimental else "false",
            "GitCommit": "",
            "GoVersion": "",
            "KernelVersion": os.uname().release,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
        }
        python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        return {
            "Platform": {"Name": "Wherry Engine"},
            "Components": [
                {"Name": "Engine", "Version": __version__, "Details": details},
                {"Name": "wherry-runtime", "Version": __version__, "Details": {"GitCommit": ""}},
                {"Name": "Python", "Version": python, "Details": {"GitCommit": ""}},
            ],
            "Version": __version__,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": _go_arch(),
            "KernelVersion": os.uname().release,
            "BuildTime": _built(),
            **({"Experimental": True} if self._context.config.experimental else {}),
        }

    async def info(self) -> dict[str, Any]:
        """Docker's info JSON."""
        context, machine, pauses = self._context, self._context.machine, loopwatch.pauses()
        has, forwarding = features(), host_report.forwards_ipv4()
        unguarded = host_report.open_addresses(context.config)
        statuses = [container.status for container in context.registry]
        return {
            "ID": self._id,
            "Containers": len(statuses),
            "ContainersRunning": statuses.count("running"),
            "ContainersPaused": statuses.count("paused"),
            "ContainersStopped": len(statuses) - statuses.count("running") - statuses.count("paused"),
            "Images": self._image_count(),
            "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", _file_system(context.roots.data)]],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": sorted(LOG_DRIVERS),
            },
            **host_report.limits(machine, has),
            "IPv4Forwarding": forwarding,
            "Debug": context.config.debug,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": host_report.threads(),
            "SystemTime": times.whole(time.time()),
            "LoggingDriver": context.config.log_driver,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": "2" if machine.cgroup_version == "v2" else "1",
            "NEventsListener": self._watching(),
            "KernelVersion": os.uname().release,
            "OperatingSystem": _os_release("PRETTY_NAME"),
            "OSVersion": _os_release("VERSION_ID"),
            "OSType": "linux",
            "Architecture": os.uname().machine,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": self._registries(),
            "NCPU": machine.cpus,
            "MemTotal": machine.memory,
            "GenericResources": None,
            "DockerRootDir": context.roots.data,
            **host_report.proxies(os.environ),
            "Name": socket.gethostname(),
            "Labels": context.config.labels,
            "ExperimentalBuild": context.config.experimental,
            "ServerVersion": __version__,
            # one runtime; scripts look for the name that dockerd's has
            "Runtimes": {name: {"path": "wherry-runtime"} for name in RUNTIMES if name},
            "DefaultRuntime": context.config.default_runtime or "runc",
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": context.config.live_restore,
            "Isolation": "",
            "InitBinary": machine.tini or "",
            "SecurityOptions": host_report.security_options(context.config, machine),
            **host_report.network_settings(context.config),
            "Warnings": host_report.warnings(machine, has, unguarded, self._troubles(), forwarding=forwarding),
            "EventLoop": {
                "LongestPause": round(pauses.longest * 1e9),
                "LongestBusy": round(pauses.busiest * 1e9),
                "LongPauses": pauses.long,
            },
            "Background": background().report(),
        }


def _go_arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _built() -> str:
    """When this installation of the package was made."""
    made = os.stat(wherry.__file__).st_mtime
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000000+00:00", time.gmtime(made))


def _machine_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _os_release(key: str) -> str:
    try:
        return platform.freedesktop_os_release().get(key, "")
    except OSError:
        return ""


def _file_system(path: str) -> str:
    best, kind = "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if path.startswith(fields[1].rstrip("/") + "/") and len(fields[1]) >= len(best):
                best, kind = fields[1], fields[2]
    return "extfs" if kind in ("ext4", "ext3") else kind
