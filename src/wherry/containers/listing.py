"""List: what `ps` shows, and its filters."""

import time
from typing import Any

from wherry.containers import clock, data, health, inspect
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import InvalidArgument, WherryError
from wherry.patterns.expressions import Expression

STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
HEALTH = ("none", "starting", "healthy", "unhealthy")
FILTERS = frozenset(
    "ancestor before exited expose health id isolation is-task label name network publish since status volume".split()
)


def list_containers(
    context: Context, *, all_: bool, limit: int, size: bool, filters: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """List containers, newest first.

    Args:
        all_: those that do not run too.
        limit: at most so many (0: no limit); implies `all_`, as dockerd does.
        size: count each read-write layer.
        filters: Docker's, values of one name are alternatives.

    Raises:
        InvalidArgument: an unknown filter or value, in dockerd's words.
    """
    _check(filters)
    for reference in (*filters.get("before", []), *filters.get("since", [])):
        context.registry.find(reference)
    chosen = [
        c for c in sorted(context.registry, key=lambda c: c.record.created, reverse=True) if _fits(context, c, filters)
    ]
    if not (all_ or limit > 0 or filters.get("status")):
        chosen = [c for c in chosen if c.running or c.status == "restarting"]
    if limit > 0:
        chosen = chosen[:limit]
    now = time.time_ns()
    return [summary(context, container, now, size=size) for container in chosen]


def summary(context: Context, container: Container, now: int, *, size: bool) -> dict[str, Any]:
    """Docker's summary of one container."""
    record = container.record
    networks = inspect.network_settings(container)
    written, below = inspect.sizes(context, container) if size else (0, 0)
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": _image_name(context, container),
        "ImageID": record.image,
        "Command": command_text([record.path, *record.args]),
        "Created": clock.parse_rfc3339(record.created) // 1_000_000_000,
        "Ports": ports(networks["Ports"]),
        # as dockerd: a size of nothing is left out
        **({"SizeRw": written} if written else {}),
        **({"SizeRootFs": written + below} if size else {}),
        "Labels": record.config.labels or {},
        "State": container.status,
        "Status": status_text(container, now),
        "HostConfig": {"NetworkMode": record.host_config.network_mode},
        "NetworkSettings": {"Networks": networks["Networks"]},
        "Mounts": data.shown(context, record),
    }


def command_text(argv: list[str]) -> str:
    """Process 1's words as dockerd joins them: words with a blank are quoted by `'`."""
    return " ".join(f"'{word}'" if " " in word else word for word in argv)


def _image_name(context: Context, container: Container) -> str:
    """The name the container was made by, or the id once that name means another image."""
    name = container.record.image_name
    try:
        if context.resolve_image(name).id == container.record.image:
            return name
    except WherryError:
        pass
    return container.record.image


def status_text(container: Container, now: int) -> str:
    """`Up 5 seconds (Paused)`, `Exited (1) 2 minutes ago`, `Created`…"""
    if container.running:
        since = clock.ago(container.started_at, now)
        if container.status == "paused":
            return f"Up {since} (Paused)"
        if container.network_lost:
            return f"Up {since} (network lost)"
        state = health.status(container)
        if state == "none":
            return f"Up {since}"
        return f"Up {since} ({'health: starting' if state == 'starting' else state})"
    if container.status == "restarting":
        return f"Restarting ({container.exit.code}) {clock.ago(container.exit.finished_at, now)} ago"
    if container.status == "removing":
        return "Removal In Progress"
    if container.status == "dead":
        return "Dead"
    if container.status == "created" or not container.exit.finished_at:
        return "Created"
    return f"Exited ({container.exit.code}) {clock.ago(container.exit.finished_at, now)} ago"


def ports(published: dict[str, list[dict[str, str]] | None]) -> list[dict[str, Any]]:
    """`Ports` of the summary from `NetworkSettings.Ports`."""
    listed: list[dict[str, Any]] = []
    for key, bindings in published.items():
        port, _, protocol = key.partition("/")
        base = {"PrivatePort": int(port), "Type": protocol or "tcp"}
        if bindings:
            listed += [
                {
                    "IP": binding["HostIp"],
                    "PrivatePort": int(port),
                    "PublicPort": int(binding["HostPort"]),
                    "Type": protocol,
                }
                for binding in bindings
            ]
        else:
            listed.append(base)
    return listed


def _check(filters: dict[str, list[str]]) -> None:
    for name in filters:
        if name not in FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    for value in filters.get("status", []):
        if value not in STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    for value in filters.get("exited", []):
        try:
            int(value)
        except ValueError:
            raise InvalidArgument(
                f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
            ) from None
    for value in filters.get("health", []):
        if value not in HEALTH:
            raise InvalidArgument(f"unrecognized filter value for health: {value}")
    tasks = filters.get("is-task", [])
    if any(value.lower() not in ("0", "1", "false", "true") for value in tasks):
        raise InvalidArgument(f"invalid filter 'is-task=[{' '.join(tasks)}]'")
    for name in ("publish", "expose"):
        for value in filters.get(name, []):
            _port_range(name, value)


def _port_range(name: str, value: str) -> tuple[range, str]:
    """The ports and the protocol of `80`, `80/udp` or `8000-8010/tcp`."""
    if not value:
        raise InvalidArgument(f"error while looking up for {name} {value}: Empty string specified for ports.")
    numbers, _, protocol = value.partition("/")
    low, dash, high = numbers.partition("-")
    for text in (low, high) if dash else (low,):
        if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
            raise InvalidArgument(
                f'error while looking up for {name} {value}: strconv.ParseUint: parsing "{text}": invalid syntax'
            )
    first, last = int(low), int(high) if dash else int(low)
    if last < first:
        refusal = f"Invalid range specified for the Port: {value}"
        raise InvalidArgument(f"error while looking up for {name} {value}: {refusal}")
    return range(first, last + 1), protocol or "tcp"


def _fits(context: Context, container: Container, filters: dict[str, list[str]]) -> bool:
    return all(_TESTS[name](context, container, values) for name, values in filters.items() if name in _TESTS)


def _by_id(_: Context, container: Container, values: list[str]) -> bool:
    return any(value and container.id.startswith(value) for value in values)


def _by_name(_: Context, container: Container, values: list[str]) -> bool:
    def matches(value: str) -> bool:
        try:
            pattern = Expression(value)
        except InvalidArgument:
            return value in container.name
        return pattern.search(container.name) or pattern.search(f"/{container.name}")

    return any(matches(value) for value in values)


def _by_label(_: Context, container: Container, values: list[str]) -> bool:
    labels = container.record.config.labels or {}

    def matches(value: str) -> bool:
        key, equals, wanted = value.partition("=")
        return key in labels and (not equals or labels[key] == wanted)

    return all(matches(value) for value in values)


def _by_status(_: Context, container: Container, values: list[str]) -> bool:
    return container.status in values


def _by_exited(_: Context, container: Container, values: list[str]) -> bool:
    return (
        not container.running
        and container.status != "created"
        and container.exit.code in {int(value) for value in values}
    )


def _by_ancestor(context: Context, container: Container, values: list[str]) -> bool:
    for value in values:
        try:
            image = context.resolve_image(value)
        except WherryError:
            continue
        if image.id == container.record.image:
            return True
        below = list(image.chain_ids)
        if below and container.record.chain_ids[: len(below)] == below:
            return True
    return False


def _created_of(context: Context, reference: str) -> str:
    return context.registry.find(reference).record.created


def _by_before(context: Context, container: Container, values: list[str]) -> bool:
    return all(container.record.created < _created_of(context, value) for value in values)


def _by_since(context: Context, container: Container, values: list[str]) -> bool:
    return all(container.record.created > _created_of(context, value) for value in values)


def _by_network(_: Context, container: Container, values: list[str]) -> bool:
    networks = inspect.network_settings(container)["Networks"]
    return any(
        value == name or (value and item["NetworkID"].startswith(value))
        for value in values
        for name, item in networks.items()
    )


def _by_volume(_: Context, container: Container, values: list[str]) -> bool:
    points = data.points(container.record)
    return any(value in (point.name, point.source, point.target) for value in values for point in points if value)


def _has_port(container: Container, name: str, key: str, values: list[str]) -> bool:
    open_ports = ports(inspect.network_settings(container)["Ports"])
    for value in values:
        wanted, protocol = _port_range(name, value)
        if any(port.get(key) in wanted and port["Type"] == protocol for port in open_ports):
            return True
    return False


def _by_publish(_: Context, container: Container, values: list[str]) -> bool:
    return _has_port(container, "publish", "PublicPort", values)


def _by_expose(_: Context, container: Container, values: list[str]) -> bool:
    return _has_port(container, "expose", "PrivatePort", values)


def _by_health(_: Context, container: Container, values: list[str]) -> bool:
    return health.status(container) in values


def _by_task(_: Context, __: Container, values: list[str]) -> bool:
    return not any(value in ("true", "1") for value in values)


_TESTS = {
    "id": _by_id,
    "name": _by_name,
    "label": _by_label,
    "status": _by_status,
    "exited": _by_exited,
    "ancestor": _by_ancestor,
    "before": _by_before,
    "since": _by_since,
    "network": _by_network,
    "volume": _by_volume,
    "publish": _by_publish,
    "expose": _by_expose,
    "health": _by_health,
    "is-task": _by_task,
}
