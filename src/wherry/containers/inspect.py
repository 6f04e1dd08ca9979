"""Inspect: Docker's whole JSON of a container."""

import os
from typing import Any

import msgspec

from wherry.containers import asked, clock, data, health, links, logs, merge
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.spec.security import SecurityOptions
from wherry.runtime.cgroups.features import features
from wherry.wire.network_settings import network_settings as wire_settings


def inspect(context: Context, container: Container, *, size: bool = False) -> dict[str, Any]:
    """Describe a container with the keys and types that dockerd gives.

    Args:
        size: also count the read-write layer and the image below (`SizeRw`, `SizeRootFs`, bytes).
    """
    record = container.record
    directory = context.roots.container(record.id)
    driver = record.host_config.log_config.type
    config = merge.as_json(record.config)
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": state(container),
        "Image": record.image,
        "ResolvConfPath": _if_there(f"{directory}/resolv.conf"),
        "HostnamePath": _if_there(f"{directory}/hostname"),
        "HostsPath": _if_there(f"{directory}/hosts"),
        "LogPath": logs.path(directory, record.id, driver) if driver == "json-file" else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": SecurityOptions.parse(record.host_config.security_opt).apparmor_asked,
        "ExecIDs": [e.id for e in container.execs.values() if e.running] or None,
        "HostConfig": {**_host_config(container), "Links": links.shown(context.registry, record)},
        "GraphDriver": _graph(context, container),
        **(_sizes(context, container) if size else {}),
        "Mounts": data.shown(context, record),
        "Config": _with_address(config, container),
        "NetworkSettings": network_settings(container),
    }


def state(container: Container) -> dict[str, Any]:
    """Docker's `State` object."""
    ended = container.status in ("exited", "restarting", "removing", "dead")
    running = container.running or container.status == "restarting"
    return {
        "Status": container.status,
        "Running": running,
        "Paused": container.status == "paused",
        "Restarting": container.status == "restarting",
        "OOMKilled": ended and container.exit.oom,
        "Dead": container.status == "dead",
        "Pid": container.pid,
        "ExitCode": 0 if container.running else container.exit.code,
        "Error": container.error,
        "StartedAt": clock.rfc3339(container.started_at),
        "FinishedAt": clock.rfc3339(container.exit.finished_at),
        **({"Health": found} if (found := health.shown(container)) is not None else {}),
    }


def network_settings(container: Container) -> dict[str, Any]:
    """Docker's `NetworkSettings`; of a container that does not run, the networks it will be in."""
    if container.network is not None:
        settings = container.network.settings()
        if container.monitor is not None and container.netns_fd is not None:
            settings["SandboxKey"] = f"/proc/{container.monitor.pid}/fd/{container.netns_fd}"
        return settings
    return wire_settings(networks=asked.shown(container), ports={})


def _host_config(container: Container) -> dict[str, Any]:
    host: dict[str, Any] = msgspec.to_builtins(container.record.host_config)
    for absent in ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init"):
        if host.get(absent) is None:
            host.pop(absent, None)
    host["PortBindings"] = host.get("PortBindings") or {}
    for listed in ("BlkioWeightDevice", "Devices"):
        host[listed] = host.get(listed) or []
    # dockerd clears it at the first start where the kernel cannot disable the OOM killer, as on cgroup v2
    if container.record.started_once and "oom_kill_disable" not in features().names:
        host["OomKillDisable"] = None
    return host


def _with_address(config: dict[str, Any], container: Container) -> dict[str, Any]:
    """The MAC address that was asked for on the first network is shown here too."""
    mode = container.record.host_config.network_mode
    wish = asked.wishes_of(container.record).get(mode) if mode != "none" else None
    return {**config, "MacAddress": wish.mac_address} if wish and wish.mac_address else config


def _graph(context: Context, container: Container) -> dict[str, Any]:
    data = context.roots.container(container.id)
    mounts = context.layers.mounts(container.record.chain_ids, f"{data}/upper", f"{data}/work")
    options = dict(option.partition("=")[::2] for option in mounts[0].options if "=" in option)
    return {
        "Data": {
            "LowerDir": options.get("lowerdir", ""),
            "MergedDir": f"{data}/merged",
            "UpperDir": f"{data}/upper",
            "WorkDir": f"{data}/work",
        },
        "Name": "overlay2",
    }


def _if_there(path: str) -> str:
    return path if os.path.exists(path) else ""


def _sizes(context: Context, container: Container) -> dict[str, int]:
    written, below = sizes(context, container)
    return {"SizeRw": written, "SizeRootFs": written + below}


def sizes(context: Context, container: Container) -> tuple[int, int]:
    """Bytes in the read-write layer, and in the image below it."""
    from wherry.errors import WherryError
    from wherry.snapshots.diff import usage

    fd = os.open(f"{context.roots.container(container.id)}/upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        written = usage(fd)[0]
    finally:
        os.close(fd)
    try:
        below = context.resolve_image(container.record.image).size
    except WherryError:
        below = 0
    return written, below
