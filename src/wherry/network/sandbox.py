"""A container's network namespace: made, joined to its bridges, and given back. Runs in the monitor.

An endpoint is a JSON value, so that it travels in the launch message and is kept in `state.json`:

    {"host_name": "veth1a2b3c4d5e6f", "name": "eth0", "mac": "02:42:ac:11:00:02", "mtu": 1500, "bridge": "wherry0",
     "addresses": ["172.17.0.2/16"], "gateway": "172.17.0.1",
     "addresses6": [], "gateway6": "", "routes": [{"destination": "10.0.0.0/8", "gateway": "172.17.0.9"}],
     "sysctls": {"net.ipv4.conf.eth0.log_martians": "1"}}

`host_name`, `name`, `mac` and `bridge` are needed, the rest may be missing. `network` is how errors call it. `group` is
the device group of the near end, by which the firewall knows the ports of a bridge (`ruleset.group_of`). Two
netlink conversations do the work: one here (the pair: its near end up and a port of the bridge, its far end already in
the namespace), one inside. With `kind` `macvlan` or `ipvlan` (and `mode`) there is no near end: the link is made in the
namespace, over `bridge`.
"""

import errno
import os

from wherry.errors import Conflict, InvalidArgument, KernelError
from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import (
    add_address,
    add_child,
    add_route,
    add_veth,
    delete_default_route,
    delete_link,
    get_link,
    set_hairpin,
    set_link,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from wherry.linux.netlink import Request

_PORTS_OF_A_BRIDGE = 1023  # BR_MAX_PORTS of the kernel, without the number 0
_LOOPBACK = 1  # the first interface of every network namespace
_FAMILIES = {"ipv4": 2, "ipv6": 10}
_CHILD_MODES = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
}


def create_namespace() -> int:
    """Make a network namespace with its loopback up, and give a close-on-exec descriptor of it.

    Its interfaces listen to no router: who says where to go is the engine, never a neighbour (RFC 6104, rogue RA).
    The caller's own namespace is unchanged afterwards, also when this fails. The namespace lives as long as a
    descriptor or a process of it.

    Raises:
        KernelError: the kernel refused; nothing is left.
    """
    return netns.create(_loopback_up)


def bring_up(netns_fd: int) -> None:
    """Bring up the loopback of a namespace that somebody else has made (with a user namespace, which then owns it).

    Raises:
        KernelError: the kernel refused.
    """
    netns.inside(netns_fd, _loopback_up)


def _loopback_up() -> None:
    for name in ("all", "default"):
        for switch in ("accept_ra", "autoconf"):
            _write_sysctl(f"net.ipv6.conf.{name}.{switch}", "0", missing_is_fine=True)
    with Netlink() as netlink:
        netlink.run([set_link(_LOOPBACK, up=True)])


def configure(netns_fd: int, endpoints: "Sequence[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Join a namespace to bridges: one pair of links per endpoint, addressed, routed and up.

    Args:
        netns_fd: the namespace, from `create_namespace`.
        endpoints: as the module describes; the first one's gateway makes the default route, unless it has none.

    Returns:
        Per endpoint `{"host_name", "host_index", "name", "index", "mac", "mtu"}`.

    Raises:
        Conflict: a bridge has as many ports as the kernel allows.
        KernelError: naming the step; host-side links made so far are removed again.
        InvalidArgument: an address, MAC or name that is none.
    """
    if not endpoints:
        return []
    if any(endpoint.get("addresses6") for endpoint in endpoints):
        endpoints = [_without_ipv6(endpoint) for endpoint in endpoints]
    made: list[str] = []
    with Netlink() as outside:
        try:
            with netns.inside(netns_fd, lambda: _open_inside(endpoints)) as within:
                return [_join(outside, within, netns_fd, endpoint, made) for endpoint in endpoints]
        except BaseException:
            _delete(outside, made)
            raise


def _without_ipv6(endpoint: "dict[str, Any]") -> "dict[str, Any]":
    """Beside one that has IPv6, one that has none is told so by itself."""
    if endpoint.get("addresses6"):
        return endpoint
    off = {f"net.ipv6.conf.{endpoint['name']}.disable_ipv6": "1"}
    return {**endpoint, "sysctls": {**off, **(endpoint.get("sysctls") or {})}}


def _open_inside(endpoints: "Sequence[dict[str, Any]]") -> Netlink:
    # before the links exist: they are born without a link-local address, no neighbour discovery is ever sent
    wanted = any(endpoint.get("addresses6") for endpoint in endpoints)
    _write_sysctl("net.ipv6.conf.default.disable_ipv6", "0" if wanted else "1", missing_is_fine=not wanted)
    return Netlink()


def _join(
    outside: Netlink, within: Netlink, netns_fd: int, endpoint: "dict[str, Any]", made: "list[str]"
) -> "dict[str, Any]":
    host_name, name = endpoint["host_name"], endpoint["name"]
    below = get_link(outside, endpoint["bridge"])
    mtu = int(endpoint.get("mtu") or 0)
    kind = endpoint.get("kind") or "bridge"
    host_index = 0
    if kind == "bridge":
        mac = endpoint["mac"]
        group = int(endpoint.get("group") or 0)  # from its first moment: no frame passes before it has it
        at = {"master": below.index, "peer_netns": netns_fd, "mtu": mtu, "group": group}
        try:
            outside.run([add_veth(host_name, peer=name, peer_mac=mac, **at)])
        except KernelError as error:
            raise _full(endpoint) if error.errno == errno.EXFULL else error from None
        made.append(host_name)
        outside.run([set_hairpin(host_name)])
        host_index = get_link(outside, host_name).index
    else:
        mode = _CHILD_MODES[kind][endpoint["mode"]]
        outside.run(
            [add_child(name, kind=kind, mode=mode, below=below.index, netns=netns_fd, mac=endpoint["mac"], mtu=mtu)]
        )
    inner = get_link(within, name)
    try:
        sysctls = endpoint.get("sysctls") or {}
        if sysctls:
            netns.inside(netns_fd, lambda: _write_sysctls(sysctls))
        within.run(_inside_requests(inner.index, endpoint))
    except BaseException:
        if kind != "bridge":
            _delete(within, [name])
        raise
    return {
        "host_name": host_name,
        "host_index": host_index,
        "name": name,
        "index": inner.index,
        "mac": inner.mac,
        "mtu": inner.mtu,
    }


def _full(endpoint: "dict[str, Any]") -> Conflict:
    bridge, network = endpoint["bridge"], endpoint.get("network") or endpoint["bridge"]
    return Conflict(
        f'bridge {bridge} is full: network "{network}" has {_PORTS_OF_A_BRIDGE} ports, as many as the kernel allows; '
        "put the container on another network"
    )


def leave(netns_fd: int, endpoints: "Sequence[dict[str, Any]]") -> None:
    """Take interfaces out of a namespace; `endpoints` as `configure` returned them. One that is gone is fine.

    Raises:
        KernelError: one is there and cannot be deleted; the others were tried.
    """
    remove_host_links([endpoint["host_name"] for endpoint in endpoints if endpoint["host_name"]])
    inner = [endpoint["name"] for endpoint in endpoints if not endpoint["host_name"]]
    if inner:
        with netns.inside(netns_fd, Netlink) as within:
            failed = _delete(within, inner)
        if failed is not None:
            raise failed


def route(netns_fd: int, routes: "dict[str, list[str]]") -> None:
    """Give a namespace its default routes: `{"ipv4": ["eth0", "172.17.0.1"], "ipv6": []}`; an empty one is taken away.

    Raises:
        KernelError: the kernel refused.
    """
    with netns.inside(netns_fd, Netlink) as within:
        for family, way in routes.items():
            if way:
                index = get_link(within, way[0]).index
                within.run([add_route(index, gateway=way[1], replace=True)])
                continue
            try:
                within.run([delete_default_route(_FAMILIES[family])])
            except KernelError as error:
                if error.errno not in (errno.ESRCH, errno.ENOENT):
                    raise


def _inside_requests(index: int, endpoint: "dict[str, Any]") -> "list[Request]":
    requests = [set_link(index, up=True)]
    requests += [add_address(index, a) for a in (endpoint.get("addresses") or ())]
    requests += [add_address(index, a) for a in (endpoint.get("addresses6") or ())]
    for route in endpoint.get("routes") or ():
        requests.append(add_route(index, route["destination"], route.get("gateway") or ""))
    requests += [add_route(index, gateway=endpoint[key]) for key in ("gateway", "gateway6") if endpoint.get(key)]
    return requests


def _write_sysctls(values: "dict[str, str]") -> None:
    for key, value in values.items():
        _write_sysctl(key, value)


def _write_sysctl(key: str, value: str, *, missing_is_fine: bool = False) -> None:
    # /proc/sys/net shows the values of the namespace of the thread that looks
    if not key.startswith("net.") or "/" in key or ".." in key:
        raise InvalidArgument(f"sysctl {key!r} is not one of a network namespace")
    path = "/proc/sys/" + key.replace(".", "/")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if not (missing_is_fine and error.errno == errno.ENOENT):
            raise KernelError(f"set sysctl {key} to {value}", error.errno or 0) from error


def remove_host_links(names: "Iterable[str]") -> None:
    """Delete host-side links by name; their far ends go with them. One that is gone already is fine.

    The kernel takes 20-35 ms for each: call it where nobody waits.

    Raises:
        KernelError: a link is there and cannot be deleted; the others were tried.
    """
    with Netlink() as netlink:
        failed = _delete(netlink, names)
    if failed is not None:
        raise failed


def _delete(netlink: Netlink, names: "Iterable[str]") -> "KernelError | None":
    failed = None
    for name in names:
        try:
            netlink.run([delete_link(name)])
        except KernelError as error:
            if error.errno != errno.ENODEV:
                failed = failed or error
    return failed


def describe_namespace_path(pid: int, fd: int) -> str:
    """Give the path under which others may open the namespace that process `pid` holds as `fd` (SandboxKey)."""
    return f"/proc/{pid}/fd/{fd}"
