"""netd: one small process for all networks of an engine. It answers names and relays the ports that NAT cannot do.

It runs under a monitor in the host's namespaces (`monitor/host.py`), outlives wherryd, and holds what it was told:
while wherryd is away it goes on. It has no privileges: what must be opened in a container's namespace is opened by that
container's monitor and handed over.

Who connects to its socket says first what it is:

    {"op": "control"}                           wherryd; further messages as below
    {"op": "sandbox", "id"} and `udp`, `tcp`    a container's monitor (`netd_sandbox.py`)

wherryd's messages, each about one thing; `begin` … `commit` replaces all names at once, at the commit:

    {"op": "begin"} {"op": "commit"}
    {"op": "network", "id", "name"}             {"op": "no-network", "id"}
    {"op": "member", "network", "container", "names", "addresses"}     {"op": "no-member", "network", "container"}
    {"op": "asker", "id", "networks", "links", "servers", "forward", "dotted_only"}       {"op": "no-asker", "id"}
    {"op": "relay", "id", "protocol", "address", "port"} and `socket` (without one: another target)
    {"op": "no-relay", "id"}
    {"op": "sync", "seq"}                       -> {"seq", "sandboxes": [ids], "relays": [ids]}
"""

import _socket
import os
import time

from wherry.errors import WherryError
from wherry.linux.channel import Channel, close_all
from wherry.linux.loop import IN, Loop
from wherry.linux.nobody import become_nobody
from wherry.network.dns_names import Asker, Member, Names, Network
from wherry.network.netd_forward import Forwarder
from wherry.network.netd_relay import DatagramRelay, StreamRelay
from wherry.network.netd_sandbox import Sandbox
from wherry.network.resolver import DEFAULT_SERVERS, host_resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SWEEP_SECONDS = 5.0
_HOST_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_LOOK_AGAIN = 2.0


def main(listener: int) -> None:
    """Serve until killed.

    Args:
        listener: a listening SOCK_SEQPACKET socket that only root can connect to.
    """
    netd = Netd(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, listener))
    netd.host_servers()  # whatever that imports cannot be imported later
    become_nobody()
    netd.run()


class Netd:
    """The process's state and its socket.

    Args:
        listener: where wherryd and monitors connect; owned.
    """

    def __init__(self, listener: "_socket.socket") -> None:
        self.loop = Loop(_complain, lambda: None)
        self.names = Names()
        self.forwarder = Forwarder(self.loop)
        self._sandboxes: dict[str, Sandbox] = {}
        self._relays: dict[str, StreamRelay | DatagramRelay] = {}
        self._control: Channel | None = None
        self._next: Names | None = None
        self._host: list[str] = []
        self._looked = 0.0
        self._seen: tuple[object, ...] | None = None
        self._listener = listener
        listener.setblocking(False)
        self.loop.watch(listener.fileno(), IN, self._accept)

    def run(self) -> None:
        """Serve for ever."""
        self._sweep()
        self.loop.run()

    # ---- what sandboxes ask

    def catch_up(self) -> None:
        """Take what wherryd has said: whoever asks after a start must find what started."""
        if self._control is not None:
            self._told(self._control)

    def host_servers(self) -> "list[str]":
        """The host's servers, read again when the files have changed."""
        now = time.monotonic()
        if self._looked + _LOOK_AGAIN < now or not self._looked:
            self._looked = now
            seen = tuple(_stamp(path) for path in _HOST_FILES)
            if seen != self._seen:
                self._seen = seen
                found = host_resolver(*_HOST_FILES).nameservers
                self._host = [server for server in found if "%" not in server] or list(DEFAULT_SERVERS)
        return self._host

    def gone(self, sandbox: Sandbox) -> None:
        """A sandbox is closed."""
        if self._sandboxes.get(sandbox.id) is sandbox:
            del self._sandboxes[sandbox.id]

    # ---- connections

    def _accept(self, _bits: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        channel = Channel.from_fd(fd)
        channel.sock.setblocking(False)
        self.loop.watch(fd, IN, lambda _bits: self._first(channel))

    def _first(self, channel: Channel) -> None:
        """The first message of a connection says what it is."""
        try:
            received = channel.receive()
        except BlockingIOError:
            return
        except (OSError, WherryError):
            received = None
        if received is None:
            self.loop.unwatch(channel.fileno())
            channel.close()
            return
        message, fds = received
        if message.get("op") == "sandbox" and {"udp", "tcp"} <= fds.keys():
            self._meet(str(message["id"]), channel, fds)
            return
        close_all(list(fds.values()))
        if message.get("op") == "control":
            if self._control is not None:
                self._forget_control()
            self._control = channel
            self.loop.watch(channel.fileno(), IN, lambda _bits: self._told(channel))
        else:
            self.loop.unwatch(channel.fileno())
            channel.close()

    def _meet(self, id_: str, channel: Channel, fds: "dict[str, int]") -> None:
        old = self._sandboxes.get(id_)
        if old is not None:
            old.close()
        self._sandboxes[id_] = Sandbox(self, id_, channel, fds.pop("udp"), fds.pop("tcp"))
        close_all(list(fds.values()))

    def _forget_control(self) -> None:
        if self._control is not None:
            self.loop.unwatch(self._control.fileno())
            self._control.close()
            self._control = None
            self._next = None  # half of the truth is none

    def _told(self, channel: Channel) -> None:
        while self._control is channel:
            try:
                received = channel.receive()
            except BlockingIOError:
                return
            except (OSError, WherryError):
                received = None
            if received is None:
                self._forget_control()
                return
            message, fds = received
            try:
                _OPERATIONS[str(message["op"])](self, message, fds)
            except (KeyError, TypeError, ValueError, OSError) as error:
                _complain(error)
            finally:
                close_all(list(fds.values()))

    # ---- what wherryd says

    @property
    def _told_names(self) -> Names:
        return self._next if self._next is not None else self.names

    def _begin(self, _message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        self._next = Names()

    def _commit(self, _message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        if self._next is not None:
            self.names, self._next = self._next, None

    def _network(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        networks = self._told_names.networks
        if message["id"] not in networks:
            networks[message["id"]] = Network(str(message["name"]))

    def _no_network(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        self._told_names.networks.pop(message["id"], None)

    def _member(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        member = Member(message["names"], message["addresses"])
        self._told_names.networks[message["network"]].put(message["container"], member)

    def _no_member(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        network = self._told_names.networks.get(message["network"])
        if network is not None:
            network.drop(message["container"])

    def _asker(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        self._told_names.askers[message["id"]] = Asker(
            list(message["networks"]),
            dict(message["links"]),
            list(message["servers"]),
            forward=bool(message["forward"]),
            dotted_only=bool(message["dotted_only"]),
        )

    def _no_asker(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        self._told_names.askers.pop(message["id"], None)

    def _relay(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        target = (str(message["address"]), int(message["port"]))
        if "socket" not in fds:
            if message["id"] in self._relays:
                self._relays[message["id"]].target = target
            return
        old = self._relays.pop(message["id"], None)
        if old is not None:
            old.close(last=False)  # the same socket, perhaps
        kind = DatagramRelay if message["protocol"] == "udp" else StreamRelay
        self._relays[message["id"]] = kind(self.loop, fds.pop("socket"), target, self.catch_up)

    def _no_relay(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        relay = self._relays.pop(message["id"], None)
        if relay is not None:
            relay.close()

    def _sync(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        if self._control is not None:
            reply = {"seq": message["seq"], "sandboxes": list(self._sandboxes), "relays": list(self._relays)}
            self._control.send(reply)

    def _sweep(self) -> None:
        self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = time.monotonic()
        for sandbox in tuple(self._sandboxes.values()):
            sandbox.sweep(now)
        for relay in self._relays.values():
            relay.sweep(now)


_OPERATIONS: "dict[str, Callable[[Netd, dict[str, Any], dict[str, int]], None]]" = {
    "begin": Netd._begin,
    "commit": Netd._commit,
    "network": Netd._network,
    "no-network": Netd._no_network,
    "member": Netd._member,
    "no-member": Netd._no_member,
    "asker": Netd._asker,
    "no-asker": Netd._no_asker,
    "relay": Netd._relay,
    "no-relay": Netd._no_relay,
    "sync": Netd._sync,
}


def _stamp(path: str) -> "tuple[int, int, int] | None":
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _complain(error: BaseException) -> None:
    """Say it in the log; netd goes on."""
    os.write(2, f"netd: {type(error).__name__}: {error}\n".encode(errors="replace"))
