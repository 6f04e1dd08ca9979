"""Start the engine when nobody answers at the default socket.

As root: the service where one is installed, else `wherryd` in a session of its own, `/` its working directory, its
output in `/var/log/wherry.log`. Of simultaneous starters the data root's lock picks one engine; the others' wherryd
ends at once and everybody waits for the same socket. Anybody else is told which socket it is and how to reach it.
"""

import _socket
import errno
import os
import sys
import time

from wherry.client import access
from wherry.client.errors import CannotConnect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.address import Address

LOG_FILE = "/var/log/wherry.log"
_DEADLINE = 30.0
_LOG_TAIL = 65536
_GRACE = 5.0  # for the socket of another starter, after our own engine ended
_UNITS = (
    "/etc/systemd/system/wherry.service",
    "/usr/lib/systemd/system/wherry.service",
    "/lib/systemd/system/wherry.service",
)
_SCRIPT = "/etc/init.d/wherry"


def start_engine(address: "Address", error: OSError) -> None:
    """Start the engine and return when its socket accepts.

    Args:
        address: the default socket's address.
        error: why the first connection failed.

    Raises:
        CannotConnect: we may not start one, it ended, or it does not listen within 30 seconds.
    """
    if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
        return
    if os.geteuid() != 0:
        raise CannotConnect(
            f"Cannot connect to the Wherry daemon at {address.text}: nobody listens. Ask root to start wherryd"
            f" and to add you to the group of the socket ({access.how_to_join(address.path)})"
        )
    program, arguments, what = _command()
    os.write(2, f"wherry: starting {what}\n".encode())
    began = _size(LOG_FILE)
    pid = _spawn(program, arguments)
    deadline = time.monotonic() + _DEADLINE
    pause = 0.002
    ended: int | None = None
    while not _listens(address.path):
        if ended is None:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended = os.waitstatus_to_exitcode(status)
                if ended:
                    # another starter may have won: its socket will come, but not for ever
                    deadline = min(deadline, time.monotonic() + _GRACE)
        if time.monotonic() > deadline:
            said = _last_line(began)
            raise CannotConnect(
                f"wherryd ended with status {ended}{said}, see {LOG_FILE}"
                if ended
                else f"wherryd does not listen at {address.text} after {int(_DEADLINE)} seconds{said}, see {LOG_FILE}"
            )
        time.sleep(pause)  # between two attempts to connect
        pause = min(pause * 1.5, 0.05)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _last_line(offset: int) -> str:
    """What the engine wrote last into its log, after `offset`, to be put behind other words."""
    try:
        with open(LOG_FILE, "rb") as log:
            log.seek(max(offset, _size(LOG_FILE) - _LOG_TAIL))
            lines = log.read(_LOG_TAIL).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last.removeprefix('wherryd: ')}" if last else ""


def _command() -> "tuple[str, list[str], str]":
    if os.path.isdir("/run/systemd/system") and any(os.path.exists(unit) for unit in _UNITS):
        return "systemctl", ["systemctl", "start", "wherry.service"], "the service wherry"
    if os.access(_SCRIPT, os.X_OK):
        return _SCRIPT, [_SCRIPT, "start"], "the service wherry"
    beside = os.path.join(os.path.dirname(sys.argv[0]), "wherryd")
    program = os.path.abspath(beside) if os.access(beside, os.X_OK) else "wherryd"
    return program, [program], f"wherryd, its log is {LOG_FILE}"


def _spawn(program: str, arguments: "list[str]") -> int:
    log = os.open(LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    # a pipe of the caller's that the engine kept would never end
    inherited = [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]
    try:
        # posix_spawn has no working directory of its own: the child inherits ours, so be at / for that moment
        os.chdir("/")
        return os.posix_spawnp(
            program,
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *inherited,
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
        )
    except OSError as error:
        raise CannotConnect(f"cannot start {program}: {os.strerror(error.errno or 0)}") from None
    finally:
        os.fchdir(here)
        for fd in (log, null, here):
            os.close(fd)


def _inheritable() -> "list[int]":
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def _listens(path: str) -> bool:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError:
        return False
    else:
        return True
    finally:
        sock.close()
