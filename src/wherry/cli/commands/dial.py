"""`system dial-stdio`: join stdin and stdout with the engine's socket. ssh executes it on the engine's machine."""

import _socket
import _thread
import os
import select

from wherry.cli.flags import Command, Invocation
from wherry.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.connection import Connection

_PIECE = 256 * 1024


def _dial(command: Invocation) -> None:
    connection: Connection = command.client.connect()
    _thread.start_new_thread(_send, (connection.sock,))
    while data := connection.sock.recv(_PIECE):
        write_all(1, data)
    os._exit(0)  # the other thread waits for a stdin that may never end


def _send(sock: "_socket.socket") -> None:
    """Carry stdin to the engine, and its end; leave when nobody reads stdout any more."""
    try:
        while data := os.read(0, _PIECE):
            sock.sendall(data)
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        os._exit(0)  # the engine closed; what it said is out
    # an idle engine says nothing, so that no write tells us that the caller is gone
    poll = select.poll()
    poll.register(1, 0)
    poll.poll()
    os._exit(0)


COMMANDS = {
    "system dial-stdio": Command(
        "[OPTIONS]",
        "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
        _dial,
        (),
        arguments=(0, 0),
    )
}
