"""Where a container's output is recorded: drivers and options, checked when it is made, resolved when it starts."""

import os
import re
from collections.abc import Mapping
from typing import Any

from wherry.containers.model import Container
from wherry.errors import InvalidArgument, NotSupported
from wherry.oci.syslog import FACILITIES, FORMATS
from wherry.patterns.expressions import Expression, search
from wherry.values import sizes
from wherry.values.gotext import FALSE, TRUE, parse_bool
from wherry.wire.containers import LogConfig

DEFAULT_SIZE = 10 << 20
DEFAULT_FILES = 3
_LOCAL_SIZE = 20 << 20
_LOCAL_FILES = 5

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_SYSLOG_SOCKET = "/dev/log"

_CHOICE = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_FILES = frozenset({"max-size", "max-file", "compress"})
_ANY = frozenset({"mode", "max-buffer-size"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_TLS = frozenset({"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"})
_OPTIONS: dict[str, frozenset[str]] = {
    "json-file": _FILES | _CHOICE | _ANY,
    "local": _FILES | _ANY,
    "syslog": frozenset({"syslog-address", "syslog-facility", "syslog-format"}) | _TLS | _CHOICE | _ANY | _CACHE,
    "journald": _CHOICE | _ANY | _CACHE,
    "none": frozenset(),
}
_FIELD = re.compile(r"\{\{-? *(.*?) *-?\}\}")
_FAILED = "failed to create task for container: failed to initialize logging driver: "


def validate(log: LogConfig) -> None:
    """Check driver and names of options; an empty type is the engine's default and is checked when it is known.

    Raises:
        InvalidArgument: in dockerd's words.
        NotSupported: TLS to a syslog server.
    """
    options = log.config or {}
    driver = log.type or "json-file"
    if driver not in _OPTIONS:
        raise InvalidArgument(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "none":
        return
    _mode(options)
    for name in options:
        if name not in _OPTIONS[driver]:
            words = f"log driver {driver}" if driver == "local" else f"{driver} log driver"
            raise InvalidArgument(f"unknown log opt '{name}' for {words}")
    if driver == "syslog":
        _syslog(options)


def validate_values(log: LogConfig) -> None:
    """Check what dockerd looks at only when a container starts: values, and whether somebody takes the log.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    options = log.config or {}
    driver = log.type or "json-file"
    if driver == "none":
        return
    for name in ("labels-regex", "env-regex"):
        try:
            Expression(options.get(name, ""))
        except InvalidArgument as error:
            raise InvalidArgument(f"{_FAILED}{error}") from None
    _tag(options.get("tag", ""), {})
    _files(driver, options)
    if driver == "syslog" and "syslog-address" not in options and not os.path.exists(_SYSLOG_SOCKET):
        raise InvalidArgument(f"{_FAILED}Unix syslog delivery error")
    if driver == "journald" and not os.path.exists(JOURNAL_SOCKET):
        raise InvalidArgument(f"{_FAILED}journald is not enabled on this host")


def _mode(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            sizes.ram_in_bytes(options["max-buffer-size"])
        except ValueError as error:
            raise InvalidArgument(f"error parsing option max-buffer-size: {error}") from None


def _files(driver: str, options: Mapping[str, str]) -> None:
    for prefix in ("", "cache-"):
        size, count = options.get(f"{prefix}max-size", ""), options.get(f"{prefix}max-file", "")
        try:
            _file_size(size)
        except ValueError as error:
            where = f"invalid value for max-size: {size}: " if driver == "local" else ""
            raise InvalidArgument(f"{_FAILED}{where}{error}") from None
        if count and not count.lstrip("-").isdigit():
            raise InvalidArgument(f'{_FAILED}strconv.Atoi: parsing "{count}": invalid syntax')
        if count and int(count) < 1:
            raise InvalidArgument(f"{_FAILED}max-file cannot be less than 1")
        compress = options.get(f"{prefix}compress", "")
        try:
            compressed = bool(compress) and parse_bool(compress)
        except ValueError as error:
            raise InvalidArgument(f"{_FAILED}{error}") from None
        if compressed and (count == "1" or size == "-1"):
            text = "compress cannot be true when max-file is less than 2 or max-size is not set"
            raise InvalidArgument(f"{_FAILED}{text}")


def _file_size(text: str) -> int:
    """Read a size as dockerd does, in decimal units; empty or `-1` is 0: the default.

    Raises:
        ValueError: it is no size, in dockerd's words.
    """
    return 0 if text in ("", "-1") else sizes.from_human(text)


def _syslog(options: Mapping[str, str]) -> None:
    if _TLS & options.keys():
        raise NotSupported("TLS to a syslog server is not supported: send to a local syslog daemon, which can")
    if options.get("syslog-format", "") not in FORMATS:
        raise InvalidArgument("Invalid syslog format")
    facility = options.get("syslog-facility", "")
    if facility and facility not in FACILITIES and not (facility.isdigit() and int(facility) < 24):
        raise InvalidArgument("invalid syslog facility")
    scheme, place = syslog_address(options.get("syslog-address", ""))
    if scheme.startswith("unix") and "syslog-address" in options and not os.path.exists(place):
        raise InvalidArgument(f"stat {place}: no such file or directory")


def syslog_address(text: str) -> tuple[str, str]:
    """Divide `udp://host:port`, `tcp://…`, `unix://path` or `unixgram://path`; nothing is the local daemon.

    Raises:
        InvalidArgument: another scheme.
        NotSupported: `tcp+tls`.
    """
    if not text:
        return "unixgram", _SYSLOG_SOCKET
    scheme, colon, place = text.partition("://")
    if not colon:
        scheme, place = "", text
    if scheme == "tcp+tls":
        raise NotSupported("TLS to a syslog server is not supported: send to a local syslog daemon, which can")
    if scheme not in ("udp", "tcp", "unix", "unixgram"):
        raise InvalidArgument(f"unsupported scheme: '{scheme}'")
    if scheme.startswith("unix"):
        return scheme, place
    host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (place, "", "514")
    return scheme, f"{host.removeprefix('[').removesuffix(']')}:{port}"


def path(data: str, id_: str, driver: str) -> str:
    """The file that `logs` reads: the driver's own, or the copy that is kept of what a driver sends away."""
    if driver == "local":
        return f"{data}/local-logs/container.log"
    return f"{data}/{id_}-json.log" if driver in ("json-file", "") else f"{data}/container-cached.log"


def can_be_read(log: LogConfig) -> bool:
    """Whether `logs` has something to read."""
    return log.type != "none" and (log.config or {}).get("cache-disabled", "") not in TRUE


def plan(container: Container, data: str) -> dict[str, Any]:
    """The `log` part of a launch."""
    log = container.record.host_config.log_config
    options = log.config or {}
    driver = log.type
    remote = driver in ("syslog", "journald")
    prefix = "cache-" if remote else ""
    local = remote or driver == "local"
    if driver == "local":
        os.makedirs(f"{data}/local-logs", mode=0o700, exist_ok=True)
    fields = _fields(container)
    found: dict[str, Any] = {
        "driver": driver if remote or driver == "none" else "json-file",
        "path": path(data, container.id, driver) if can_be_read(log) else "",
        "max_size": _file_size(options.get(f"{prefix}max-size", "")) or (_LOCAL_SIZE if local else DEFAULT_SIZE),
        "max_file": int(options.get(f"{prefix}max-file", "") or (_LOCAL_FILES if local else DEFAULT_FILES)),
        "compress": options.get(f"{prefix}compress", "") not in FALSE,
        "attrs": _attributes(container, options, fields),
    }
    if remote:
        found["attrs"].pop("tag", None)
        found["remote"] = _remote(container, options, fields, found["attrs"])
    return found


def _remote(
    container: Container, options: Mapping[str, str], fields: Mapping[str, str], attributes: Mapping[str, str]
) -> dict[str, Any]:
    tag = _tag(options.get("tag", "") or "{{.ID}}", fields)
    if container.record.host_config.log_config.type == "journald":
        return {
            "CONTAINER_ID": container.id[:12],
            "CONTAINER_ID_FULL": container.id,
            "CONTAINER_NAME": container.name,
            "CONTAINER_TAG": tag,
            "IMAGE_NAME": fields["ImageName"],
            "SYSLOG_IDENTIFIER": tag,
            **{_journal_name(name): value for name, value in attributes.items()},
        }
    scheme, place = syslog_address(options.get("syslog-address", ""))
    facility = options.get("syslog-facility", "") or "daemon"
    return {
        "scheme": scheme,
        "place": place,
        "facility": int(facility) if facility.isdigit() else FACILITIES.index(facility),
        "format": options.get("syslog-format", ""),
        "tag": tag,
        "host": os.uname().nodename,
    }


def _journal_name(name: str) -> str:
    """A field's name as the journal takes it (systemd.journal-fields(7)): capitals, digits, underscores."""
    upper = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")
    return upper[:64] or "FIELD"


def _attributes(container: Container, options: Mapping[str, str], fields: Mapping[str, str]) -> dict[str, str]:
    """What every record repeats: the labels and variables that `labels`, `env` and their `-regex` forms choose."""
    config = container.record.config
    found: dict[str, str] = {}
    variables = dict(entry.partition("=")[::2] for entry in config.env or [])
    for option, values in (("labels", config.labels or {}), ("env", variables)):
        names = options.get(option, "").split(",")
        pattern = options.get(f"{option}-regex", "")
        found |= {name: value for name, value in values.items() if name in names or (pattern and search(pattern, name))}
    if options.get("tag"):
        found["tag"] = _tag(options["tag"], fields)
    return found


def _fields(container: Container) -> dict[str, str]:
    record = container.record
    return {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        "Command": " ".join([record.path, *record.args]),
        "ImageID": record.image.partition(":")[2][:12],
        "ImageFullID": record.image,
        "ImageName": record.image_name,
        "ImageFullName": record.image_name,
        "DaemonName": "docker",
        "Hostname": os.uname().nodename,
    }


_KNOWN = frozenset("ID FullID Name Command ImageID ImageFullID ImageName ImageFullName DaemonName Hostname".split())


def _tag(text: str, fields: Mapping[str, str]) -> str:
    """Fill in a tag's `{{.Name}}` and its like.

    Raises:
        InvalidArgument: an action that is not closed, or a field that is not there.
        NotSupported: more than fields: pipes, functions.
    """
    if text.rpartition("{{")[2].find("}}") < 0 and "{{" in text:
        raise InvalidArgument(f"{_FAILED}template: log-tag:1: unclosed action")

    def value(found: re.Match[str]) -> str:
        name = found[1].removeprefix(".")
        if not found[1].startswith(".") or not name.isalnum():
            raise NotSupported(f"in the log option tag only fields are supported, as {{{{.Name}}}}: {found[0]}")
        if name not in _KNOWN:
            where = f'template: log-tag:1:{found.start() + 2}: executing "log-tag" at <{found[1]}>'
            raise InvalidArgument(f"{_FAILED}{where}: can't evaluate field {name} in type *logger.Info")
        return fields.get(name, "")

    return _FIELD.sub(value, text)
