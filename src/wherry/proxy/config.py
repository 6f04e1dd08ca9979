"""HAProxy's configuration, written whole from what the services are. Pure: values in, text out.

A backend has a number of slots, `s1` to `sN`; containers come and go in them by the runtime API. What a slot holds at
the time of writing is in the text too, so that a restart or a reload begins with the truth.
"""

from collections.abc import Mapping

from msgspec import Struct

from wherry.proxy.labels import Service

ADMIN_SOCKET = "admin.sock"
MASTER_SOCKET = "master.sock"
NOWHERE = "127.0.0.1:1"
"""What an empty slot leads to; it is disabled."""
_FIRST_SLOTS = 8


class Slot(Struct):
    """A container in a pool."""

    container: str
    address: str
    port: int
    ready: bool = True
    """It gets requests; else it only finishes those that it has."""


class Pool(Struct):
    """One service, and who is in its slots."""

    service: Service
    slots: list[Slot | None]
    certificate: str = ""
    """Path of our copy of the certificate."""

    @property
    def backend(self) -> str:
        """Its name in HAProxy."""
        return f"svc_{self.service.name}"

    def slot_of(self, container: str) -> int | None:
        """The slot (from 0) that a container is in."""
        for number, slot in enumerate(self.slots):
            if slot is not None and slot.container == container:
                return number
        return None


def empty_pool(service: Service, members: int = 0) -> Pool:
    """A pool with room for as many, and some to spare."""
    count = _FIRST_SLOTS
    while count < members + 2:
        count *= 2
    return Pool(service, [None] * count)


def render(
    pools: Mapping[str, Pool],
    *,
    connections: int,
    key: str,
    user: tuple[str, str, str] | None = None,
    unbindable: frozenset[tuple[str, int]] = frozenset(),
) -> str:
    """Write the configuration.

    Args:
        pools: by service name.
        connections: how many at once.
        key: from which sticky cookies are made; not to be guessed.
        user: user, group and root directory of the workers.
        unbindable: places that somebody else has; they are left out, and the rest is served.
    """
    lines = [
        "# Written by wherryd: changes are lost.",
        "global",
        "    log stdout format raw daemon notice",
        f"    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners",
        "    stats timeout 1m",
        "    hard-stop-after 10m",
        f"    maxconn {connections}",
    ]
    if user is not None:
        lines += [f"    user {user[0]}", f"    group {user[1]}", f"    chroot {user[2]}"]
    lines += [
        "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "defaults",
        "    timeout connect 2s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout http-request 30s",
        "    timeout queue 30s",
        "    timeout tunnel 1h",
        "    retries 6",
        "    option redispatch 1",
        "    option idle-close-on-response",
    ]
    places: dict[tuple[str, int], list[Pool]] = {}
    for _, pool in sorted(pools.items()):
        places.setdefault(pool.service.place, []).append(pool)
    for place, here in sorted(places.items()):
        if place not in unbindable:
            lines += _frontend(place, here)
    if not places.keys() - unbindable:
        # HAProxy does not run without any listener: one that nobody reaches
        lines += ["frontend nobody", "    mode http", "    bind unix@nobody.sock mode 600"]
    for _, pool in sorted(pools.items()):
        lines += _backend(pool, key)
    return "\n".join(lines) + "\n"


def _frontend(place: tuple[str, int], pools: list[Pool]) -> list[str]:
    address, port = place
    mode = pools[0].service.mode
    certificates = [pool.certificate for pool in pools if pool.certificate]
    options = "".join(f" crt {_quoted(path)}" for path in certificates)
    if options:
        options = f" ssl{options}" + (" alpn h2,http/1.1" if mode == "http" else "")
    name = f"at_{address.strip('[]').replace(':', '-') or 'all'}_{port}"
    lines = [f"frontend {name}", f"    mode {mode}"]
    if address:
        lines.append(f"    bind {address.strip('[]')}:{port}{options}")
    else:
        lines += [f"    bind 0.0.0.0:{port}{options}", f"    bind [::]:{port} v6only{options}"]
    if mode == "tcp":
        return [*lines, f"    default_backend {pools[0].backend}"]
    lines += [
        "    option forwardfor",
        "    option http-keep-alive",
        f"    http-request set-header X-Forwarded-Proto {'https' if options else 'http'}",
        "    http-request set-var(txn.host) req.hdr(host),field(1,:),lower",
    ]
    for condition, backend in _choices(pools):
        lines.append(f"    use_backend {backend} if {condition}" if condition else f"    default_backend {backend}")
    return lines


def _choices(pools: list[Pool]) -> list[tuple[str, str]]:
    """Conditions in order: the longer path first, exact hosts before wildcards, those for any host last."""
    found: list[tuple[tuple[int, int, int], str, str]] = []
    for pool in pools:
        service = pool.service
        for host in service.hosts or ("",):
            where, rank = "", 0
            if host.startswith("*."):
                where, rank = f"{{ var(txn.host) -m end {host[1:]} }}", 1
            elif host:
                where, rank = f"{{ var(txn.host) -m str {host} }}", 2
            ways = [f"{{ path {service.path} }}", f"{{ path_beg {service.path}/ }}"] if service.path else [""]
            for way in ways:
                # the default must be the last line that is read, and is the only one without a condition
                order = (-rank, -len(host), -len(service.path))
                found.append((order, " ".join(part for part in (where, way) if part), pool.backend))
    return [(condition, backend) for _, condition, backend in sorted(found, key=lambda one: one[0])]


def _backend(pool: Pool, key: str) -> list[str]:
    service = pool.service
    lines = [f"backend {pool.backend}", f"    mode {service.mode}", f"    balance {service.balance}"]
    if service.mode == "http":
        # a request that no server has answered a word to is tried once more elsewhere, where that does no harm
        lines += [
            "    retry-on conn-failure empty-response",
            "    http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
        ]
        if service.sticky:
            lines += [
                f"    cookie {service.sticky} insert indirect nocache httponly dynamic",
                f"    dynamic-cookie-key {key}",
            ]
        if service.check and service.check != "tcp":
            lines.append(f"    option httpchk GET {service.check}")
    elif service.sticky:
        lines += ["    stick-table type ipv6 size 100k expire 30m", "    stick on src"]
    check = " check inter 2s fall 2 rise 1" if service.check else ""
    for number, slot in enumerate(pool.slots, 1):
        if slot is None:
            lines.append(f"    server s{number} {NOWHERE}{check} disabled")
        else:
            address = f"[{slot.address}]" if ":" in slot.address else slot.address
            lines.append(f"    server s{number} {address}:{slot.port}{check}{'' if slot.ready else ' disabled'}")
    return lines


def _quoted(path: str) -> str:
    return "".join(f"\\{letter}" if letter in " #\\\"'" else letter for letter in path)
