"""Whether the peer of a stream socket has taken what was sent to it."""

import asyncio
import fcntl
import sys
import termios


def is_taken(fd: int) -> bool:
    """Whether nothing waits for the peer (unix(7), SIOCOUTQ), or it has left; of TCP: whether all of it arrived."""
    try:
        return not int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return True


async def until_taken(fd: int, seconds: float = 10.0) -> None:
    """Wait until the peer has taken what was sent.

    Docker's clients read the head of an answer through a buffer and the stream past it: they lose what comes in the
    same packet as the head.

    Args:
        fd: the socket.
        seconds: for which a peer that takes nothing is waited for: it may want to send first.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not is_taken(fd):
        waited = loop.time() - began
        if waited > seconds:
            return
        await asyncio.sleep(min(max(waited / 8, 0.0002), 0.02))
