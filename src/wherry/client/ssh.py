"""An engine on another machine, through ssh: as Docker does it, a command there joins its stdio with the socket."""

import _socket
import os

from wherry.client.errors import CannotConnect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.address import Address

_children: list[int] = []


def command(address: "Address") -> list[str]:
    """What is executed: `ssh … -- HOST wherry system dial-stdio`."""
    words = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    if address.user:
        words += ["-l", address.user]
    if address.port:
        words += ["-p", str(address.port)]
    there = ["wherry", "system", "dial-stdio"]
    if address.remote:
        there[1:1] = ["--host", f"unix://{address.remote}"]
    # what follows the host is a command line for the shell there
    return [*words, "--", address.host, *(_quoted(word) for word in there)]


def gone(address: "Address") -> str:
    """What to say when the connection ends too early; ssh has said its part on stderr."""
    return (
        f"the connection to {address.text} ended (command {command(address)}): make sure that the URL is valid, and "
        "that wherry is installed on the remote host"
    )


def dial(address: "Address") -> "_socket.socket":
    """Start ssh and return the socket that is its stdin and stdout.

    Raises:
        CannotConnect: there is no ssh on this machine.
        OSError: it cannot be started.
    """
    for pid in _children[:]:  # of earlier connections
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = pid
        if ended:
            _children.remove(pid)
    ours, theirs = _socketpair()
    try:
        words = command(address)
        pid = os.posix_spawnp(
            words[0],
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1)],
            # what ends the command by the keyboard must not end the stream under it first
            setsid=True,
            setsigmask=[],
            setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
        )
    except FileNotFoundError:
        ours.close()
        raise CannotConnect(
            f"cannot connect to {address.text}: ssh is not installed (apt-get install openssh-client)"
        ) from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    _children.append(pid)
    return ours


def _socketpair() -> "tuple[_socket.socket, _socket.socket]":
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)


def _quoted(word: str) -> str:
    if all(letter.isalnum() or letter in "/._-+:@%=," for letter in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"
