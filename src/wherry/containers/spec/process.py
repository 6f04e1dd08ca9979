"""Process 1 of a container, and a process that is executed in it: the OCI `process` object."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from wherry.containers.spec import security as spec_security
from wherry.containers.spec.security import SecurityOptions
from wherry.oci.isolation import DEFAULT_PATH
from wherry.wire.containers import Config, ExecConfig, HostConfig

INIT = "/sbin/docker-init"


class _Machine(Protocol):
    capabilities: frozenset[str]


def environment(config: Config, hostname: str, *, tty: bool) -> list[str]:
    """The environment in dockerd's order: PATH, HOSTNAME, TERM, then the container's own, which replace these."""
    defaults = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}"]
    if tty:
        defaults.append("TERM=xterm")
    return override(defaults, config.env or [])


def override(base: Sequence[str], changes: Iterable[str]) -> list[str]:
    """Lay `changes` over `base`: `NAME=value` replaces in place or is appended, a bare `NAME` takes it away.

    Of several changes to one name the last wins.
    """
    found: dict[str, str | None] = {entry.partition("=")[0]: entry for entry in base}
    for change in changes:
        name, equals, _ = change.partition("=")
        if equals:
            found[name] = change
        else:
            found.pop(name, None)
    return [entry for entry in found.values() if entry is not None]


def process(
    config: Config,
    host: HostConfig,
    argv: Sequence[str],
    *,
    hostname: str,
    capabilities: Sequence[str],
    security: SecurityOptions,
    init: bool,
) -> dict[str, Any]:
    """Process 1.

    Args:
        config: joined with the image's.
        host: the host's part.
        argv: its words.
        hostname: for HOSTNAME.
        capabilities: what it gets.
        security: read `--security-opt`.
        init: whether a small init runs before it and reaps.
    """
    value: dict[str, Any] = {
        "terminal": config.tty,
        "args": [INIT, "--", *argv] if init else list(argv),
        "env": environment(config, hostname, tty=config.tty),
        "cwd": config.working_dir or "/",
        "user": user(config.user, host.group_add),
        "capabilities": capability_sets(capabilities),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    if config.tty and host.console_size and any(host.console_size):
        value["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    limits = rlimits(host)
    if limits:
        value["rlimits"] = limits
    if security.apparmor and not host.privileged:
        value["apparmorProfile"] = security.apparmor
    return value


def exec_process(
    config: Config, host: HostConfig, asked: ExecConfig, argv: Sequence[str], machine: _Machine
) -> dict[str, Any]:
    """A process executed in a running container: what process 1 has, and what the call changes.

    Args:
        config: the container's.
        host: the container's host part.
        asked: the exec call.
        argv: its words.
        machine: this host.
    """
    security = SecurityOptions.parse(host.security_opt)
    if asked.privileged:
        granted: Sequence[str] = spec_security.every_capability(machine.capabilities)
    else:
        granted = spec_security.capabilities(host, machine.capabilities)
    value = process(config, host, argv, hostname=config.hostname, capabilities=granted, security=security, init=False)
    value["terminal"] = asked.tty
    value["env"] = override(environment(config, config.hostname, tty=asked.tty), asked.env or [])
    value["cwd"] = asked.working_dir or config.working_dir or "/"
    if asked.user:
        value["user"] = user(asked.user, host.group_add)
    value.pop("consoleSize", None)
    if asked.tty and asked.console_size and any(asked.console_size):
        value["consoleSize"] = {"height": asked.console_size[0], "width": asked.console_size[1]}
    if asked.privileged:
        value.pop("apparmorProfile", None)
    return value


def user(text: str, group_add: Sequence[str] | None) -> dict[str, Any]:
    """`process.user`: the raw `user[:group]` and other groups, names and numbers, which the runtime looks up in the
    container's own files.

    Nobody asked for is uid 0, who is looked up too: root's other groups come from the container's `/etc/group`.
    """
    found: dict[str, Any] = {"uid": 0, "gid": 0, "username": text or "0"}
    if group_add:
        found["additionalGroups"] = list(group_add)
    return found


def capability_sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Bounding, effective and permitted. Inheritable and ambient stay empty: whoever is not root executes with none."""
    return {kind: list(names) for kind in ("bounding", "effective", "permitted")}


def rlimits(host: HostConfig) -> list[dict[str, Any]]:
    """`--ulimit`s; -1 is unlimited. Of several for one name the last counts."""
    found: dict[str, dict[str, Any]] = {}
    for limit in host.ulimits or []:
        kind = f"RLIMIT_{limit.name.upper()}"
        found[kind] = {"type": kind, "hard": limit.hard % (1 << 64), "soft": limit.soft % (1 << 64)}
    return list(found.values())
