"""An engine behind TLS: its certificate, ours, and a thread that makes a plain socket of the connection.

Commands poll, splice and half-close their connections, which a TLS socket does not bear.
"""

import _socket
import _thread
import signal
import time

from wherry.client import tcp
from wherry.client.connection import Connection
from wherry.client.errors import CannotConnect
from wherry.errors import InvalidArgument
from wherry.linux.loop import Loop
from wherry.linux.tls import client_context, words
from wherry.linux.tlsrelay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from wherry.client.address import Address, Tls

_LOOK_SECONDS = 1.0
_HINT = (
    "the server probably has client authentication (--tlsverify) enabled; check your TLS client certification "
    "settings: "
)


def dial(address: "Address", tls: "Tls") -> Connection:
    """Connect, and speak TLS.

    Args:
        address: the engine's; its certificate must be for the host.
        tls: which certificates to use.

    Raises:
        InvalidArgument: a file of ours cannot be used; nothing was connected.
        OSError: nobody answers.
        CannotConnect: one side refuses the other.
    """
    context = _context(tls)
    wire = tcp.dial(address)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection = Connection(ours, f"{address.host}:{address.port}")
    failure: list[BaseException] = []

    def ended(error: Exception | None) -> None:
        if error is not None:
            failure.append(error)
            connection.cause = _explained(address, error)

    loop = Loop(failure.append, lambda: None)
    relay = Relay(loop, wire, context, lambda: theirs, ended, address.host)
    while not relay.established and not failure:
        loop.once(_LOOK_SECONDS)
        relay.expire(time.monotonic())
    if failure:
        theirs.close()
        ours.close()
        relay.abort()
        raise CannotConnect(connection.cause or str(failure[0]))
    # the main thread must be the one that a signal interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        _thread.start_new_thread(_serve, (loop, relay))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return connection


def _serve(loop: Loop, relay: Relay) -> None:
    while not relay.closed:
        loop.once(_LOOK_SECONDS)
        relay.expire(time.monotonic())


def _context(tls: "Tls") -> "ssl.SSLContext":
    for path in (tls.authority, tls.certificate, tls.key):
        if path is not None:
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                reason = (error.strerror or "").lower()
                raise InvalidArgument(
                    f"Failed to initialize: unable to resolve wherry endpoint: open {path}: {reason}"
                ) from None
    try:
        return client_context(tls.authority, tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        used = ", ".join(path for path in (tls.authority, tls.certificate, tls.key) if path is not None)
        raise InvalidArgument(
            f"Failed to initialize: unable to resolve wherry endpoint: {words(error)} ({used})"
        ) from None


def _explained(address: "Address", error: Exception) -> str:
    text = words(error, address.host)
    hint = _HINT if text.startswith("remote error:") and "certificate" in text else ""
    return f"{hint}error during connect: {address.text}: {text}"
