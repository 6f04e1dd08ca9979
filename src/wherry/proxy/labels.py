"""What the labels of a create request say about a service; checked before anything is made.

    wherry.service=web              the pool that the container joins, while it runs and is healthy
    wherry.service.port=80          its port there (needed)
    wherry.service.mode=http        or tcp
    wherry.service.publish=80       where HAProxy listens: PORT or ADDRESS:PORT; http: 80, with TLS 443; tcp: needed
    wherry.service.host=a.example,*.b.example      http: only requests for these hosts
    wherry.service.path=/api        http: only requests below this path
    wherry.service.balance=roundrobin              or leastconn, source, first, random
    wherry.service.sticky=true      a client stays with a container: by a cookie (or its name), tcp: by its address
    wherry.service.check=/healthz   HAProxy itself looks: a path (http), or `true` for a connection
    wherry.service.tls=/etc/ssl/web.pem            certificate chain and key, one file on the host
    wherry.service.drain=5          seconds that open requests are given when the container is stopped

Only labels that the request itself carries count: those of an image would let whoever built it steer this host.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from wherry.errors import InvalidArgument

PREFIX = "wherry.service"
BALANCES = ("roundrobin", "leastconn", "source", "first", "random")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))*")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&()+,;=:@%/-]{0,1023}")
_COOKIE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]{2,45}\]")
_COOKIE_NAME = "WHERRY"
_MAX_DRAIN = 3600
_KEYS = ("port", "mode", "publish", "host", "path", "balance", "sticky", "check", "tls", "drain")


class Service(Struct, frozen=True):
    """What one container asks for. Equal ones are of the same pool."""

    name: str
    port: int
    """In the container."""
    mode: str = "http"
    address: str = ""
    """Of the host; empty for all."""
    publish: int = 80
    hosts: tuple[str, ...] = ()
    path: str = ""
    balance: str = "roundrobin"
    sticky: str = ""
    """Name of the cookie; in mode tcp, anything means by address."""
    check: str = ""
    """A path, or `tcp`."""
    tls: str = ""
    """Path of the certificate on the host."""
    drain: float = 5.0

    @property
    def place(self) -> tuple[str, int]:
        """Where HAProxy listens for it."""
        return self.address, self.publish


def own_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Of a create request's labels, those that steer us."""
    return {key: value for key, value in (labels or {}).items() if key == PREFIX or key.startswith(f"{PREFIX}.")}


def parse(labels: Mapping[str, str]) -> Service | None:
    """Read the labels of a create request.

    Args:
        labels: from `own_labels`.

    Returns:
        None where none speaks of a service.

    Raises:
        InvalidArgument: one says nothing that can be done, by name.
    """
    if not labels:
        return None
    name = labels.get(PREFIX, "")
    if not name:
        raise InvalidArgument(f"the label {PREFIX} is missing: {', '.join(sorted(labels))} belong to no service")
    if not _NAME.fullmatch(name):
        raise _bad(PREFIX, name, "a name of lower case letters, digits, '-', '_' and '.'")
    values = {key: labels[f"{PREFIX}.{key}"] for key in _KEYS if f"{PREFIX}.{key}" in labels}
    unknown = sorted(labels.keys() - {PREFIX, *(f"{PREFIX}.{key}" for key in _KEYS)})
    if unknown:
        raise InvalidArgument(f"unknown label {unknown[0]}: there are {', '.join(_KEYS)} of {PREFIX}")
    mode = _one_of("mode", values.get("mode", "http"), ("http", "tcp"))
    if mode == "tcp" and (wrong := [key for key in ("host", "path") if key in values]):
        raise InvalidArgument(f"the label {PREFIX}.{wrong[0]} needs mode http")
    if "port" not in values:
        raise InvalidArgument(f"the label {PREFIX}.port is missing: on which port does the container listen?")
    tls = values.get("tls", "")
    address, publish = _publish(values.get("publish", ""), mode, tls)
    return Service(
        name=name,
        port=_port("port", values["port"]),
        mode=mode,
        address=address,
        publish=publish,
        hosts=_hosts(values.get("host", "")),
        path=_path("path", values["path"]).rstrip("/") if values.get("path") else "",
        balance=_one_of("balance", values.get("balance", "roundrobin"), BALANCES),
        sticky=_sticky(values.get("sticky", "")),
        check=_check(values.get("check", ""), mode),
        tls=_certificate(tls) if tls else "",
        drain=_drain(values.get("drain", "5")),
    )


def conflict(service: Service, others: Mapping[str, Service]) -> str:
    """Why a service cannot be beside others at the same place, in words; empty when it can."""
    for name, other in others.items():
        if name == service.name or other.publish != service.publish:
            continue
        where = f"port {service.publish} is service {name}'s"
        if other.mode != service.mode:
            return f"{where}, in mode {other.mode}"
        if bool(other.tls) != bool(service.tls):
            return f"{where}, {'with' if other.tls else 'without'} TLS"
        overlap = other.address == service.address or not other.address or not service.address
        if not overlap:
            continue
        if other.address != service.address:
            return f"{where}, at {other.address or 'all addresses'}"
        if service.mode == "tcp":
            return where
        if other.path == service.path and (set(other.hosts or ("",)) & set(service.hosts or ("",))):
            return f"{where}, for the same hosts and path"
    return ""


def _bad(key: str, value: str, wanted: str) -> InvalidArgument:
    label = key if key == PREFIX else f"{PREFIX}.{key}"
    return InvalidArgument(f"invalid label {label}={value[:80]!r}: it must be {wanted}")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise _bad(key, value, f"one of {', '.join(allowed)}")
    return value


def _port(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65536):
        raise _bad(key, value, "a port from 1 to 65535")
    return int(value)


def _publish(value: str, mode: str, tls: str) -> tuple[str, int]:
    if not value:
        if mode == "tcp":
            raise InvalidArgument(f"the label {PREFIX}.publish is missing: on which port should HAProxy listen?")
        return "", 443 if tls else 80
    address, _, port = value.rpartition(":")
    if address and not _ADDRESS.fullmatch(address):
        raise _bad("publish", value, "PORT or ADDRESS:PORT")
    return address, _port("publish", port)


def _hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(host.strip().lower() for host in value.split(",") if host.strip()))
    for host in hosts:
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise _bad("host", host, "host names, separated by commas")
    return hosts


def _path(key: str, value: str) -> str:
    if not _PATH.fullmatch(value):
        raise _bad(key, value, "a path that begins with /")
    return value


def _sticky(value: str) -> str:
    if value in ("", "false"):
        return ""
    if value == "true":
        return _COOKIE_NAME
    if not _COOKIE.fullmatch(value):
        raise _bad("sticky", value, "true, false, or the name of a cookie")
    return value


def _check(value: str, mode: str) -> str:
    if value in ("", "false"):
        return ""
    if value in ("true", "tcp"):
        return "tcp"
    if mode == "tcp":
        raise _bad("check", value, "true or false in mode tcp")
    return _path("check", value)


def _drain(value: str) -> float:
    if not (value.isascii() and value.isdigit() and len(value) < 6 and int(value) <= _MAX_DRAIN):
        raise _bad("drain", value, f"seconds, at most {_MAX_DRAIN}")
    return float(value)


def _certificate(path: str) -> str:
    if not path.startswith("/") or not path.isprintable():
        raise _bad("tls", path, "the absolute path of a file on the host")
    import ssl  # ten milliseconds that most engines need not spend

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidArgument(f"invalid label {PREFIX}.tls: {path}: {words}") from None
    return path


def _no_password() -> str:
    # else OpenSSL would ask the terminal of wherryd
    return ""
