"""Unix sockets whose path is longer than sun_path's 107 bytes: bind and connect through a directory descriptor.

`/proc/self/fd/N/<name>` names the socket, whatever the directory's own length (unix(7), proc(5)).
"""

import _socket
import os


def listen_at(directory: str, name: str, kind: int, *, mode: int = 0o600, backlog: int = 16) -> "_socket.socket":
    """Bind a unix socket at `directory/name` and listen; a left-over one of the same name is replaced.

    Args:
        directory: must exist.
        name: file name in it.
        kind: `SOCK_STREAM` or `SOCK_SEQPACKET`.
        mode: permission bits of the socket file; it is never visible with wider ones.
        backlog: listen(2)'s.

    Raises:
        OSError: the directory is missing, or the file system has no sockets.
    """
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(name, dir_fd=directory_fd)
        except FileNotFoundError:
            pass
        sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
        previous = os.umask(0o777 & ~mode)
        try:
            sock.bind(f"/proc/self/fd/{directory_fd}/{name}")
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(previous)
    finally:
        os.close(directory_fd)
    return sock


def connect_at(directory: str, name: str, kind: int, *, blocking: bool = True) -> "_socket.socket":
    """Connect to the unix socket `directory/name`.

    With `blocking=False` the socket stays non-blocking, and a full backlog raises `BlockingIOError` at once.

    Raises:
        OSError: nobody listens (ECONNREFUSED), nothing is there (ENOENT).
    """
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(blocking)
            sock.connect(f"/proc/self/fd/{directory_fd}/{name}")
        except BaseException:
            sock.close()
            raise
    finally:
        os.close(directory_fd)
    return sock
