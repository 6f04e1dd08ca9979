"""The embedded server's sockets in a container's network namespace. Runs in the monitor, before process 1.

The sockets have ports that the kernel picks, and port 53 of 127.0.0.11 is redirected to them inside the namespace: the
container may itself listen on port 53. What is asked before netd has the sockets waits in them.
"""

import _socket

from wherry.errors import KernelError
from wherry.linux import netns
from wherry.linux.nfnetlink import (
    HOOK_OUTPUT,
    PRIORITY_DNAT,
    TCP,
    UDP,
    add_nat_chain,
    add_redirect,
    add_table,
    commit,
)

ADDRESS = "127.0.0.11"
_PORT = 53
_TABLE, _CHAIN = "wherry-dns", "output"
_BACKLOG = 64


def open_sockets(netns_fd: int) -> "tuple[int, int]":
    """Make both sockets and the redirection; gives close-on-exec descriptors of the UDP and the TCP socket.

    Raises:
        KernelError: the kernel refused; the namespace may keep a rule that leads nowhere.
    """
    return netns.inside(netns_fd, _open)


def _open() -> "tuple[int, int]":
    try:
        udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        udp.bind((ADDRESS, 0))
        tcp.bind((ADDRESS, 0))
        tcp.listen(_BACKLOG)
    except OSError as error:
        raise KernelError("open the resolver's sockets", error.errno or 0) from None
    commit(
        [
            add_table(_TABLE),
            add_nat_chain(_TABLE, _CHAIN, HOOK_OUTPUT, PRIORITY_DNAT),
            add_redirect(_TABLE, _CHAIN, UDP, ADDRESS, _PORT, udp.getsockname()[1]),
            add_redirect(_TABLE, _CHAIN, TCP, ADDRESS, _PORT, tcp.getsockname()[1]),
        ]
    )
    return udp.detach(), tcp.detach()


def open_upstream(netns_fd: int, family: int, kind: int) -> int:
    """A fresh socket in the namespace, towards an upstream server; raises KernelError."""

    def make() -> int:
        try:
            return _socket.socket(family, kind | _socket.SOCK_CLOEXEC).detach()
        except OSError as error:
            raise KernelError("open a socket", error.errno or 0) from None

    return netns.inside(netns_fd, make)
