"""A TCP connection to an engine."""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.address import Address


def dial(address: "Address") -> "_socket.socket":
    """Connect, at the first of the host's addresses that answers.

    Raises:
        OSError: none does, or the host has none.
    """
    failure: OSError | None = None
    for family, kind, protocol, _name, endpoint in _socket.getaddrinfo(
        address.host, address.port, 0, _socket.SOCK_STREAM
    ):
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            sock.connect(endpoint)
        except OSError as error:
            sock.close()
            failure = error
            continue
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return sock
    raise failure or OSError("no address")
