"""What a start hands to the monitor: the files of the sandbox, the OCI configuration, the launch message."""

import json
import os
from typing import Any

from wherry.containers import health, links, logs, userns
from wherry.containers.context import Context
from wherry.containers.groups import cgroup_path
from wherry.containers.model import Container
from wherry.containers.mounting import Opened
from wherry.containers.ports import SandboxNetwork
from wherry.containers.security import seccomp_filter
from wherry.containers.spec.configuration import SpecRequest, build_spec
from wherry.oci.mount import Mount


def prepare(
    context: Context, container: Container, network: SandboxNetwork, modes: dict[str, str], opened: Opened
) -> dict[str, Any]:
    """Write the bundle and return the launch message.

    Args:
        network: what the sandbox was allotted.
        modes: `new`, `host` or `join` for each of network, pid, ipc, uts.
        opened: what is mounted besides the root.
    """
    record = container.record
    data, run = context.roots.container(record.id), context.roots.sandbox(record.id)
    os.makedirs(f"{run}/bundle", mode=0o700, exist_ok=True)
    files = sandbox_files(network, data)
    _map_files(container, files, opened)
    spec = build_spec(
        SpecRequest(
            id=record.id,
            name=record.name,
            config=links.with_environment(context.registry, record),
            host_config=record.host_config,
            argv=[record.path, *record.args],
            hostname=record.config.hostname,
            cgroup_path=cgroup_path(context, record.id),
            machine=context.machine,
            mounts=opened.mounts,
            files=files,
            namespace_modes=modes,
            no_new_privileges=context.config.no_new_privileges,
            ids=record.userns,
        )
    )
    config_path = f"{run}/bundle/config.json"
    with open(config_path, "w", encoding="utf-8") as file:
        json.dump(spec, file, separators=(",", ":"))
    with open(f"{run}/launch.json", "w", encoding="utf-8") as file:
        json.dump(network.to_json(), file, separators=(",", ":"))
    capabilities = frozenset(spec["process"]["capabilities"]["bounding"])
    confinement = seccomp_filter(context, record.host_config, capabilities)
    return {
        "id": record.id,
        "run_dir": run,
        "data_dir": data,
        "config_path": config_path,
        "cgroup": cgroup_path(context, record.id),
        **confinement,
        "restart_count": record.restart_count,
        "health": health.settings(context, container, confinement, f"{run}/bundle/health.json"),
        "root_mounts": [
            mount.to_json()
            for mount in context.layers.mounts(record.chain_ids, f"{data}/upper", f"{data}/work", read_only=False)
        ],
        "sources": opened.sources,
        "tty": record.config.tty,
        "open_stdin": record.config.open_stdin,
        "stdin_once": record.config.stdin_once,
        "console_size": _console_size(record.host_config.console_size),
        "log": logs.plan(container, data),
        "network": network.plan(),
        "attach": [],
        "stop_on_control_close": False,
    }


def start_mark(data: str) -> str:
    """A file of the container that each start writes, and that a start which came to nothing takes away."""
    return f"{data}/hosts"


def unmark(data: str) -> None:
    """Take the mark of a start that came to nothing away, before anything else of that start goes."""
    try:
        os.unlink(start_mark(data))
    except FileNotFoundError:
        return


def _console_size(size: list[int] | None) -> list[int] | None:
    return size if size and any(size) else None


def sandbox_files(network: SandboxNetwork, data: str) -> list[Mount]:
    """Write hosts, hostname and resolv.conf; they are regular files of ours, bound over the image's."""
    contents = network.files()
    mounts = []
    for name, text in contents.items():
        path = f"{data}/{name}"
        # in place and not renamed: a survivor of this sandbox may have the file bound
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
        mounts.append(Mount(f"/etc/{name}", "bind", path, ("rbind", "rprivate")))
    return mounts


def _map_files(container: Container, files: list[Mount], opened: Opened) -> None:
    """In a user namespace these files are its root's too."""
    maps = userns.lines(container.record.userns)
    if not any(maps):
        return
    for mount in files:
        name = f"mount:{mount.destination}"
        opened.fds[name] = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        opened.sources[mount.destination] = {"fd": name, "uid_map": maps[0], "gid_map": maps[1]}
