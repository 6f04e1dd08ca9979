"""The flags of `run` and `create` as the body of POST /containers/create."""

import os

from wherry.cli.failure import file_failure
from wherry.cli.mounts import parse_device, parse_ports, port_range, split_volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from wherry.cli.flags import Values

_PREDEFINED = ("", "default", "bridge", "host", "none")


def container_config(values: "Values") -> "dict[str, Any]":
    """What to create.

    Args:
        values: the parsed command line; its arguments are the image and the command.

    Returns:
        The request: Config, with HostConfig and NetworkingConfig in it.

    Raises:
        ValueError: in Docker's words.
        Failure: a file that cannot be read.
    """
    image, *command = values.args
    streams = values["attach"]
    attach_all = not streams
    exposed, bindings = parse_ports(values["publish"])
    for text in values["expose"]:
        exposed.update(_exposed(text))
    binds, volumes = _volumes(values["volume"])
    interactive = values["interactive"]
    attach_stdin = interactive or "stdin" in streams
    config: dict[str, Any] = {
        "Hostname": values["hostname"],
        "Domainname": values["domainname"],
        "User": values["user"],
        "AttachStdin": attach_stdin,
        "AttachStdout": attach_all or "stdout" in streams,
        "AttachStderr": attach_all or "stderr" in streams,
        "Tty": values["tty"],
        "OpenStdin": interactive,
        # stdin ends for the container when the one who attached it goes
        "StdinOnce": interactive and attach_stdin,
        "Env": _environment(values["env-file"], values["env"]),
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": values["workdir"],
        "Entrypoint": _entrypoint(values),
        "Labels": _labels(values["label-file"], values["label"]),
        "HostConfig": _host_config(values, binds, bindings),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(values)},
    }
    if exposed:
        config["ExposedPorts"] = exposed
    if values["stop-signal"]:
        config["StopSignal"] = values["stop-signal"]
    if "stop-timeout" in values.changed:
        config["StopTimeout"] = values["stop-timeout"]
    health = _healthcheck(values)
    if health:
        config["Healthcheck"] = health
    return config


def _entrypoint(values: "Values") -> "list[str] | None":
    # given and empty, it takes the image's away
    return [values["entrypoint"]] if "entrypoint" in values.changed else None


def _host_config(values: "Values", binds: "list[str]", bindings: "dict[str, list[dict[str, str]]]") -> "dict[str, Any]":
    for flag, name in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        if not _valid_mode(flag, values[flag]):
            raise ValueError(f"--{flag}: invalid {name} mode")
    if values["memory-swappiness"] != -1 and not 0 <= values["memory-swappiness"] <= 100:
        raise ValueError(f"invalid value: {values['memory-swappiness']}. Valid memory swappiness range is 0-100")
    if values["mac-address"]:
        _check_mac(values["mac-address"])
    restart = restart_policy(values["restart"])
    if values["rm"] and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    security, masked, read_only = _security(values["security-opt"])
    networks = values["network"] + values["net"]
    host: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": values["cidfile"],
        "LogConfig": {"Type": values["log-driver"], "Config": _log_options(values["log-driver"], values["log-opt"])},
        "NetworkMode": networks[0]["target"] if networks else "default",
        "PortBindings": bindings,
        "RestartPolicy": restart,
        "AutoRemove": values["rm"],
        "VolumeDriver": values["volume-driver"],
        "VolumesFrom": values["volumes-from"] or None,
        "CapAdd": values["cap-add"] or None,
        "CapDrop": values["cap-drop"] or None,
        "CgroupnsMode": values["cgroupns"],
        "Dns": values["dns"],
        "DnsOptions": values["dns-option"] + values["dns-opt"],
        "DnsSearch": values["dns-search"],
        "ExtraHosts": values["add-host"] or None,
        "GroupAdd": values["group-add"] or None,
        "IpcMode": values["ipc"],
        "Links": values["link"] or None,
        "OomScoreAdj": values["oom-score-adj"],
        "PidMode": values["pid"],
        "Privileged": values["privileged"],
        "PublishAllPorts": values["publish-all"],
        "ReadonlyRootfs": values["read-only"],
        "SecurityOpt": security or None,
        "UTSMode": values["uts"],
        "UsernsMode": values["userns"],
        "ShmSize": values["shm-size"],
        "CpuShares": values["cpu-shares"],
        "Memory": values["memory"],
        "NanoCpus": values["cpus"],
        "CgroupParent": values["cgroup-parent"],
        "BlkioWeight": values["blkio-weight"],
        "CpuPeriod": values["cpu-period"],
        "CpuRealtimePeriod": values["cpu-rt-period"],
        "CpuRealtimeRuntime": values["cpu-rt-runtime"],
        "CpuQuota": values["cpu-quota"],
        "CpusetCpus": values["cpuset-cpus"],
        "CpusetMems": values["cpuset-mems"],
        "BlkioWeightDevice": values["blkio-weight-device"],
        "BlkioDeviceReadBps": values["device-read-bps"],
        "BlkioDeviceWriteBps": values["device-write-bps"],
        "BlkioDeviceReadIOps": values["device-read-iops"],
        "BlkioDeviceWriteIOps": values["device-write-iops"],
        "Devices": [parse_device(text) for text in values["device"]],
        "DeviceCgroupRules": values["device-cgroup-rule"] or None,
        "MemoryReservation": values["memory-reservation"],
        "MemorySwap": values["memory-swap"],
        "MemorySwappiness": values["memory-swappiness"],
        "OomKillDisable": values["oom-kill-disable"],
        "PidsLimit": values["pids-limit"],
        "Ulimits": values["ulimit"],
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
    }
    optional: dict[str, Any] = {
        "Runtime": values["runtime"],
        "Isolation": values["isolation"],
        "DeviceRequests": values["gpus"],
        "Mounts": values["mount"],
        "Tmpfs": dict(text.partition(":")[::2] for text in values["tmpfs"]),
        "Sysctls": dict(text.partition("=")[::2] for text in values["sysctl"]),
        "Annotations": dict(text.partition("=")[::2] for text in values["annotation"]),
        "StorageOpt": _storage_options(values["storage-opt"]),
    }
    host.update({name: value for name, value in optional.items() if value})
    if "init" in values.changed:
        host["Init"] = values["init"]
    return host


def _valid_mode(flag: str, mode: str) -> bool:
    if mode.startswith("container:"):
        return flag == "pid" and bool(mode.partition(":")[2])
    ours = {"cgroupns": "private", "userns": "remap"}.get(flag)
    return mode in ("", "host") or mode == ours


def _check_mac(text: str) -> None:
    parts = text.strip().replace("-", ":").split(":")
    if len(parts) not in (6, 8, 20) or not all(len(part) == 2 and _is_hex(part) for part in parts):
        raise ValueError(f"{text} is not a valid mac address")


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in text)


def restart_policy(text: str) -> "dict[str, Any]":
    """`always`, `on-failure:3`, as the API takes it; raises ValueError in Docker's words."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    if ":" in count:
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    retries = 0
    if count:
        if not count.lstrip("-").isdigit():
            raise ValueError("invalid restart policy format: maximum retry count must be an integer")
        retries = int(count)
    return {"Name": name, "MaximumRetryCount": retries}


def _security(options: "Sequence[str]") -> "tuple[list[str], list[str] | None, list[str] | None]":
    found: list[str] = []
    masked: list[str] | None = None
    read_only: list[str] | None = None
    for option in options:
        name, separator, value = option.partition("=")
        if not separator and option != "no-new-privileges":
            name, separator, value = option.partition(":")
        if not separator and option != "no-new-privileges":
            from wherry.values.gotext import quote as quoted

            raise ValueError(f"Invalid --security-opt: {quoted(option)}")
        if name == "systempaths" and value == "unconfined":
            masked, read_only = [], []
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            found.append(f"seccomp={_compact_file(value)}")
            continue
        found.append(option)
    return found, masked, read_only


def _compact_file(path: str) -> str:
    from wherry.client.quickjson import dumps, loads

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"opening seccomp profile ({path}) failed: {file_failure('open', path, error)}") from None
    try:
        return dumps(loads(data))
    except ValueError as error:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def _log_options(driver: str, options: "Sequence[str]") -> "dict[str, str]":
    if driver == "none" and options:
        raise ValueError("invalid logging opts for driver none")
    return dict(option.partition("=")[::2] for option in options)


def _storage_options(options: "Sequence[str]") -> "dict[str, str]":
    for option in options:
        if "=" not in option:
            raise ValueError("invalid storage option")
    return dict(option.partition("=")[::2] for option in options)


def _exposed(text: str) -> "dict[str, dict[str, Any]]":
    ports, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if ":" in ports:
        raise ValueError(f"invalid port format for --expose: {text}")
    try:
        start, end = port_range(ports)
    except ValueError as error:
        raise ValueError(f"invalid range format for --expose: {text}, error: {error}") from None
    return {f"{port}/{protocol}": {} for port in range(start, end + 1)}


def _volumes(specs: "Sequence[str]") -> "tuple[list[str], dict[str, dict[str, Any]]]":
    binds: list[str] = []
    volumes: dict[str, dict[str, Any]] = {}
    for spec in specs:
        bind, volume = split_volume(spec)
        if bind:
            binds.append(bind)
        else:
            volumes[volume] = {}
    return binds, volumes


def read_pairs(paths: "Sequence[str]", *, environment: bool) -> "list[str]":
    """Files of `A=b` lines; `#` starts a comment line. A name alone takes our own value, if `environment`."""
    found: list[str] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise ValueError(str(file_failure("open", path, error))) from None
        where = f"invalid env file ({path}): "
        for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                shown = " ".join(str(byte) for byte in raw)
                raise ValueError(f"{where}invalid utf8 bytes at line {number}: [{shown}]") from None
            line = line.removesuffix("\r").lstrip()
            if not line or line.startswith("#"):
                continue
            name, separator, _ = line.partition("=")
            if any(space in name for space in " \t"):
                raise ValueError(f"{where}variable '{name}' contains whitespaces")
            if not name:
                raise ValueError(f"{where}no variable name on line '{line}'")
            if separator:
                found.append(line)
            elif environment:
                if name in os.environ:
                    found.append(f"{name}={os.environ[name]}")
            else:
                found.append(name)
    return found


def _environment(files: "Sequence[str]", given: "Sequence[str]") -> "list[str] | None":
    return [*read_pairs(files, environment=True), *given] or None


def _labels(files: "Sequence[str]", given: "Sequence[str]") -> "dict[str, str]":
    pairs = [*read_pairs(files, environment=False), *given]
    return dict(pair.partition("=")[::2] for pair in pairs)


def _healthcheck(values: "Values") -> "dict[str, Any] | None":
    times = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }
    asked = {name: values[flag] for name, flag in times.items() if values[flag]}
    if values["no-healthcheck"]:
        if asked or values["health-cmd"]:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for name, value in asked.items():
        if value < 0:
            raise ValueError(f"--{times[name]} cannot be negative")
    if values["health-cmd"]:
        return {"Test": ["CMD-SHELL", values["health-cmd"]], **asked}
    return asked or None


_OWN_WORDS = {
    "ip": "IPv4 address",
    "ip6": "IPv6 address",
    "mac-address": "MAC address",
    "link-local-ip": "link-local IP addresses",
}


def _endpoints(values: "Values") -> "dict[str, Any]":
    networks = values["network"] + values["net"]
    first_aliases = values["network-alias"] + values["net-alias"]
    endpoints: dict[str, Any] = {}
    for index, network in enumerate(networks or [{"target": "default"}]):
        target = network["target"]
        aliases = network.get("aliases", []) + (first_aliases if index == 0 else [])
        own = {"ip": "", "ip6": "", "mac-address": "", "link-local-ip": []}
        if index == 0:
            own = {name: values[name] for name in own}
            for name in own:
                if own[name] and network.get(name):
                    raise ValueError(
                        f"conflicting options: cannot specify both --{name} and per-network {_OWN_WORDS[name]}"
                    )
        endpoint: dict[str, Any] = {}
        ipam = {
            "IPv4Address": network.get("ip") or own["ip"],
            "IPv6Address": network.get("ip6") or own["ip6"],
            "LinkLocalIPs": network.get("link-local-ip") or own["link-local-ip"],
        }
        if any(ipam.values()):
            endpoint["IPAMConfig"] = {name: value for name, value in ipam.items() if value}
        user_defined = target not in _PREDEFINED and not target.startswith("container:")
        if aliases and not user_defined:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if aliases:
            endpoint["Aliases"] = aliases
        if index == 0 and values["link"] and user_defined:
            endpoint["Links"] = values["link"]
        if network.get("mac-address") or own["mac-address"]:
            endpoint["MacAddress"] = network.get("mac-address") or own["mac-address"]
        if network.get("driver-opt"):
            endpoint["DriverOpts"] = network["driver-opt"]
        if network.get("gw-priority"):
            endpoint["GwPriority"] = network["gw-priority"]
        if target in endpoints:
            raise ValueError(f'network "{target}" is specified multiple times')
        if endpoint or len(networks) > 1:
            endpoints[target] = endpoint
    return endpoints
