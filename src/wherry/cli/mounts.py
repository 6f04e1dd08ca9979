"""Values of several fields: `--mount type=bind,source=…`, `--network name=…,alias=…`, `-v`, `--tmpfs`, `--device`."""

import os

from wherry.values import sizes
from wherry.values.gotext import parse_bool, parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def fields_of(text: str) -> "list[str]":
    """One line of comma-separated values, where a field may be quoted. Raises `ValueError`."""
    found: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            while rest[end : end + 2] == '""':
                end = rest.find('"', end + 2)
            if end < 0 or rest[end + 1 : end + 2] not in ("", ","):
                raise ValueError('parse error on line 1, column 1: extraneous or missing " in quoted-field')
            found.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :]
            if not rest:
                return found
            rest = rest[1:]
            continue
        field, comma, rest = rest.partition(",")
        found.append(field)
        if not comma:
            return found


def _absolute(source: str) -> str:
    return os.path.abspath(source) if source == "." or source.startswith(("./", "../")) or source == ".." else source


def parse_mount(text: str) -> "dict[str, Any]":
    """`--mount`: an API Mount. Raises `ValueError` in Docker's words."""
    if not text.strip():
        raise ValueError("EOF")
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {f"{kind}Options": {} for kind in ("Bind", "Volume", "Tmpfs", "Image")}
    for field in fields_of(text):
        key, separator, value = field.partition("=")
        key = key.lower()
        if not key:
            raise ValueError("invalid value ''")
        if not separator:
            if key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        if key == "type":
            mount["Type"] = value.lower()
        elif key in ("source", "src"):
            mount["Source"] = _absolute(value)
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = _bool(key, value)
        elif key == "consistency":
            mount["Consistency"] = value.lower()
        elif key == "bind-propagation":
            options["BindOptions"]["Propagation"] = value.lower()
        elif key == "bind-nonrecursive":
            options["BindOptions"]["NonRecursive"] = _bool(key, value)
        elif key == "bind-create-src":
            options["BindOptions"]["CreateMountpoint"] = _bool(key, value)
        elif key == "idmap":
            options["BindOptions"]["IDMap"] = _idmap(value)
        elif key == "bind-recursive":
            _bind_recursive(value, options["BindOptions"])
        elif key == "image-subpath":
            options["ImageOptions"]["Subpath"] = value
        elif key == "volume-subpath":
            options["VolumeOptions"]["Subpath"] = value
        elif key == "volume-nocopy":
            options["VolumeOptions"]["NoCopy"] = _bool(key, value)
        elif key == "volume-label":
            name, _, label = value.partition("=")
            options["VolumeOptions"].setdefault("Labels", {})[name] = label
        elif key == "volume-driver":
            options["VolumeOptions"].setdefault("DriverConfig", {})["Name"] = value
        elif key == "volume-opt":
            name, _, option = value.partition("=")
            driver = options["VolumeOptions"].setdefault("DriverConfig", {})
            driver.setdefault("Options", {})[name] = option
        elif key == "tmpfs-size":
            try:
                options["TmpfsOptions"]["SizeBytes"] = sizes.ram_in_bytes(value)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        elif key == "tmpfs-mode":
            try:
                options["TmpfsOptions"]["Mode"] = int(value, 8)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    kinds = {name.removesuffix("Options").lower(): name for name in options}
    for kind, name in kinds.items():
        if options[name] and mount["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
        if options[name]:
            mount[name] = options[name]
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    return mount


def _bool(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _idmap(value: str) -> str:
    """`idmap=me`, which is ours: files of the container's root belong to the caller. Or `uid:gid`."""
    if value == "me":
        return f"{os.getuid()}:{os.getgid()}"
    uid, colon, gid = value.partition(":")
    if not colon or not (uid.isdigit() and gid.isdigit()):
        raise ValueError(f'invalid value for idmap: {value} (must be "me" or UID:GID)')
    return value


def _bind_recursive(value: str, options: "dict[str, Any]") -> None:
    if value == "enabled":
        return
    if value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    else:
        raise ValueError(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )


def parse_network(text: str) -> "dict[str, Any]":
    """`--network`: `target`, and what else was said: `aliases ip ip6 mac-address link-local-ip driver-opt`."""
    if "=" not in text:
        return {"target": text}
    network: dict[str, Any] = {"target": ""}
    for field in fields_of(text):
        key, separator, value = field.lower().partition("=")
        if not separator:
            raise ValueError(f"invalid field {field}")
        key = key.strip()
        value = value.strip() if key != "driver-opt" else field.partition("=")[2].strip()
        if key == "name":
            network["target"] = value
        elif key == "alias":
            network.setdefault("aliases", []).append(value)
        elif key in ("ip", "ip6", "mac-address"):
            network[key] = value
        elif key == "link-local-ip":
            network.setdefault("link-local-ip", []).append(value)
        elif key == "driver-opt":
            name, found, option = value.partition("=")
            if not found:
                raise ValueError("invalid key value pair format in driver options")
            network.setdefault("driver-opt", {})[name.strip().lower()] = option.strip()
        elif key == "gw-priority":
            network[key] = parse_int(value)
        else:
            raise ValueError(f"invalid field key {key}")
    if not network["target"]:
        raise ValueError("network name/id is not specified")
    return network


def split_volume(text: str) -> "tuple[str, str]":
    """`-v`: (bind, "") or ("", path of an anonymous volume). Raises `ValueError` in Docker's words."""
    if not text:
        raise ValueError("invalid empty volume spec")
    parts = text.split(":")
    if len(parts) == 1:
        return "", text
    for part in parts:
        if not part:
            raise ValueError(f"invalid spec: {text}: empty section between colons")
    source, rest = text.split(":", 1)
    if source.startswith("."):
        source = os.path.abspath(source)
    return f"{source}:{rest}", ""


def parse_device(text: str) -> "dict[str, str]":
    """`--device /dev/x[:/dev/y][:rwm]`: an API DeviceMapping. Raises `ValueError` in Docker's words."""
    parts = text.split(":")
    if len(parts) > 3:
        raise ValueError(f"bad format for path: {text}")
    source, target, access = parts[0], "", "rwm"
    if len(parts) == 3:
        target, access = parts[1], parts[2]
        if not _is_access(access):
            raise ValueError(f"bad mode specified: {access}")
    elif len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            target = parts[1]
    if target and not target.startswith("/"):
        raise ValueError(f"{target} is not an absolute path")
    if not source.startswith("/"):
        raise ValueError(f"{source} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def parse_ports(
    specs: "list[str]",
) -> "tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, str]]]]":
    """`-p`: (ExposedPorts, PortBindings). Raises `ValueError` in Docker's words."""
    exposed: dict[str, dict[str, Any]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for port, binding in _port(_long_port(spec) if "=" in spec else spec):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


def _long_port(text: str) -> str:
    values = {"protocol": "tcp", "published": "", "target": ""}
    for field in fields_of(text):
        key, separator, value = field.partition("=")
        if not separator or not value:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        key = {"source": "published"}.get(key, key)
        if key == "mode":
            continue
        if key not in values:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        values[key] = value
    return f"{values['published']}:{values['target']}/{values['protocol']}"


def port_range(text: str) -> "tuple[int, int]":
    """`80` or `80-90`. Raises `ValueError`."""
    first, dash, last = text.partition("-")
    start = _number(first)
    end = _number(last) if dash else start
    if end < start:
        raise ValueError(f"invalid port range: {text}")
    return start, end


def _number(text: str) -> int:
    if not text:
        raise ValueError("empty string specified for ports.")
    return parse_int(text, 16, unsigned=True)


def _port(spec: str) -> "list[tuple[str, dict[str, str]]]":
    rest, _, protocol = spec.partition("/")
    address = host = ""
    container = rest
    if ":" in rest:
        head, _, container = rest.rpartition(":")
        if head.endswith("]"):
            address = head[1:-1]
        else:
            address, colon, host = head.rpartition(":")
            address = address.removeprefix("[").removesuffix("]")
            if not colon:
                address, host = "", head
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    protocol = (protocol or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"invalid proto: {protocol}")
    if address:
        import _socket

        for family in (_socket.AF_INET, _socket.AF_INET6):
            try:
                _socket.inet_pton(family, address)
                break
            except OSError:
                continue
        else:
            raise ValueError(f"invalid IP address: {address}")
    try:
        start, end = port_range(container)
    except ValueError:
        raise ValueError(f"invalid containerPort: {container}") from None
    if not host:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(start, end + 1)]
    try:
        host_start, host_end = port_range(host)
    except ValueError:
        raise ValueError(f"invalid hostPort: {host}") from None
    if end - start != host_end - host_start:
        # many ports of the host for one of the container: the engine picks a free one
        if start != end:
            raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        return [(f"{start}/{protocol}", {"HostIp": address, "HostPort": host})]
    return [
        (f"{start + offset}/{protocol}", {"HostIp": address, "HostPort": str(host_start + offset)})
        for offset in range(end - start + 1)
    ]
