"""Checking a create request as dockerd does, in its words, and filling in what depends on other values.

What dockerd finds out only at start is for `late`: a script that creates and does not start meets the same here.
"""

import json
import signal

from wherry.containers import health, logs, restart
from wherry.containers.groups import normal_parent
from wherry.containers.spec import devices as spec_devices
from wherry.containers.spec import mounts as spec_mounts
from wherry.containers.spec import security as spec_security
from wherry.containers.spec.configuration import Host
from wherry.containers.validate_resources import validate_resources
from wherry.errors import InvalidArgument, NotSupported
from wherry.runtime.cgroups.features import Features, features
from wherry.wire.containers import Config, Healthcheck, HostConfig, RestartPolicy

_POLICIES = ("no", "always", "on-failure", "unless-stopped", health.POLICY)
_RUNTIMES = frozenset({"", "runc", "io.containerd.runc.v2", "wherry-runtime"})
_MILLISECOND = 1_000_000


def validate(config: Config, host: HostConfig, machine: Host, *, has: Features | None = None) -> list[str]:
    """Check `config` (joined with the image's) and `host`; fill in `host` where one value follows from another.

    Filled in: memory+swap from memory, what this host cannot limit set back to nothing (each with a warning).

    Args:
        config: the portable part.
        host: the host's part; changed.
        machine: this host.
        has: what its controllers offer; by default looked up.

    Returns:
        Warnings for the answer of create.

    Raises:
        InvalidArgument: the request cannot be, in dockerd's words.
        NotSupported: this engine does not do that.
    """
    _config(config)
    _host(host)
    restart_policy(host.restart_policy, config)
    _modes(config, host)
    normal_parent(host.cgroup_parent)
    _security(host)
    warnings = validate_resources(host, machine.cpus, has or features())
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    spec_security.capabilities(host, machine.capabilities)
    return warnings


def _config(config: Config) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        stop_signal(config.stop_signal)
    for entry in config.env or []:
        if not entry or entry.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidArgument("invalid environment variable: it holds a NUL byte")
    for word in [*(config.cmd or []), *(config.entrypoint or [])]:
        if "\0" in word:
            raise InvalidArgument("invalid command: it holds a NUL byte")
    if len(config.domainname.encode()) > 64:
        raise InvalidArgument(f"invalid domainname: {config.domainname}: longer than 64 bytes")
    _healthcheck(config.healthcheck)


def stop_signal(text: str) -> int:
    """A signal's number from its name (with or without SIG, `RTMIN+3`) or number.

    Raises:
        InvalidArgument: it is none.
    """
    if text.isascii() and text.isdigit():
        if int(text) == 0:
            raise InvalidArgument(f"invalid signal: {text}")
        return int(text)
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if base in ("RTMIN", "RTMAX"):
        low, high = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
        number = (low if base == "RTMIN" else high) + (int(f"{sign}{offset}") if sign and offset.isdigit() else 0)
        if (not sign or offset.isdigit()) and low <= number <= high:
            return number
    elif not sign and f"SIG{name}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{name}"])
    raise InvalidArgument(f"invalid signal: {text}")


def _healthcheck(check: Healthcheck | None) -> None:
    if check is None:
        return
    for value, name in (
        (check.interval, "Interval"),
        (check.timeout, "Timeout"),
        (check.start_period, "StartPeriod"),
        (check.start_interval, "StartInterval"),
    ):
        if value and value < _MILLISECOND:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if any("\0" in word for word in check.test or []):
        raise InvalidArgument("invalid health check: it holds a NUL byte")


def _host(host: HostConfig) -> None:
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    for entry in host.extra_hosts or []:
        _extra_host(entry)
    _ports(host)
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"Invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    if "" in (host.annotations or {}):
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
    if host.runtime not in _RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.storage_opt:
        raise NotSupported("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    for target in host.tmpfs or {}:
        if not target.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{target}' mount path must be absolute")
        if not target.strip("/."):
            raise InvalidArgument("invalid specification: destination can't be '/'")
    spec_mounts.check_points(host)
    for rule in host.device_cgroup_rules or []:
        spec_devices.parse_rule(rule)
    for device in host.devices or []:
        if device.cgroup_permissions.strip("rwm"):
            raise InvalidArgument(f"invalid device mode: {device.cgroup_permissions}")
    for limit in host.ulimits or []:
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    for paths, what in ((host.masked_paths, "MaskedPaths"), (host.readonly_paths, "ReadonlyPaths")):
        for path in paths or []:
            if not path.startswith("/"):
                raise InvalidArgument(f"invalid {what}: '{path}' is not an absolute path")
    logs.validate(host.log_config)


def _extra_host(entry: str) -> None:
    from ipaddress import ip_address

    name, separator, address = entry.partition("=" if "=" in entry else ":")
    if not separator or not name:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    if address == "host-gateway":
        return
    try:
        ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None


def _ports(host: HostConfig) -> None:
    for container, bindings in (host.port_bindings or {}).items():
        _port(container.partition("/")[0])
        for binding in bindings or []:
            if binding.host_port:
                _port(binding.host_port)


def _port(text: str) -> None:
    low, dash, high = text.partition("-")
    numbers = [low, high] if dash else [low]
    if any(not (n.isascii() and n.isdigit()) or int(n) > 65535 for n in numbers) or (dash and int(low) > int(high)):
        raise InvalidArgument(f'invalid port specification: "{text}"')


def restart_policy(policy: RestartPolicy, config: Config) -> None:
    """Check a restart policy.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    if policy.name == health.POLICY and health.probe(config) is None:
        raise InvalidArgument(f"invalid restart policy: '{policy.name}' needs a health check")
    if policy.name and policy.name not in _POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    count = policy.maximum_retry_count
    if policy.name in restart.COUNTED:
        if count < 0:
            raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    elif count:
        ending = " and cannot be negative" if count < 0 else ""
        raise InvalidArgument(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{ending}")


def _modes(config: Config, host: HostConfig) -> None:
    if host.network_mode == "container:":
        raise InvalidArgument("Invalid network mode: invalid container format container:<name|id>")
    _one_of("PID", host.pid_mode, ("", "host"))
    _one_of("UTS", host.uts_mode, ("", "host"), joins=False)
    _one_of("IPC", host.ipc_mode, ("", "none", "private", "shareable", "host"))
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if host.uts_mode == "host" and config.domainname:
        raise InvalidArgument("conflicting options: domainname and the UTS mode")
    undefined = "This would result in undefined behavior"
    if host.network_mode == "host" and host.links:
        raise InvalidArgument(f"conflicting options: host type networking can't be used with links. {undefined}")
    if not host.network_mode.startswith("container:"):
        return
    for present, text in (
        (config.hostname, "hostname and the network mode"),
        (host.links, f"container type network can't be used with links. {undefined}"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if present:
            raise InvalidArgument(f"conflicting options: {text}")


def _one_of(kind: str, mode: str, known: tuple[str, ...], *, joins: bool = True) -> None:
    other = mode.removeprefix("container:")
    if mode not in known and not (joins and mode.startswith("container:") and other):
        raise InvalidArgument(f"invalid {kind} mode: {mode}")


def _security(host: HostConfig) -> None:
    spec_security.normalised(host.cap_add, "CapAdd")
    spec_security.normalised(host.cap_drop, "CapDrop")
    options = spec_security.SecurityOptions.parse(host.security_opt)
    if options.apparmor and not spec_security.host_has_apparmor():
        raise NotSupported(f"apparmor profile {options.apparmor} cannot be had: this host does not run AppArmor")
    if options.seccomp not in (None, "", "builtin", "unconfined"):
        try:
            profile = json.loads(options.seccomp or "")
        except ValueError as error:
            raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from None
        if not isinstance(profile, dict):
            raise InvalidArgument("Decoding seccomp profile failed: not a JSON object")
