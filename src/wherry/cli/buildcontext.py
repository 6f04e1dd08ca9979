"""A directory as a build context: what is in it, and sending the engine what it does not have yet."""

import os
import stat

from wherry.cli.failure import Failure
from wherry.client.http import quote
from wherry.errors import HostileInput
from wherry.linux import inodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.client.http import Client

    Ignore = tuple[Callable[[str], bool], Callable[[str], bool]] | None

_PIECE = 1 << 20


class Directory:
    """A context on disk.

    Args:
        path: the directory.
        ignore: tells whether a path (relative) is left out, and whether a directory that is left out must be looked
            into all the same; None leaves out nothing.
    """

    def __init__(self, path: str, ignore: "Ignore" = None) -> None:
        self.path = path
        self._ignore = ignore
        self.stats: list[tuple[str, str, int, int, int, str, str]] = []
        self._walk(path, "")

    def _walk(self, directory: str, above: str) -> bool:
        """List a directory, parents first; returns whether anything of it is in."""
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise Failure(f"error checking context: {error.strerror}: {directory}") from None
        some = False
        for entry in found:
            path = f"{above}/{entry.name}" if above else entry.name
            status = entry.stat(follow_symlinks=False)
            out = self._ignore is not None and self._ignore[0](path)
            if stat.S_ISDIR(status.st_mode):
                if out and self._ignore is not None and not self._ignore[1](path):
                    continue
                place = len(self.stats)
                self._add(path, "d", status, 0, "")
                inside = self._walk(entry.path, path)
                if out and not inside:
                    del self.stats[place:]
                else:
                    some = True
            elif not out:
                some = self._other(entry.path, path, status) or some
        return some

    def _other(self, full: str, path: str, status: os.stat_result) -> bool:
        if stat.S_ISREG(status.st_mode):
            self._add(path, "f", status, status.st_size, "")
        elif stat.S_ISLNK(status.st_mode):
            self._add(path, "l", status, 0, os.readlink(full))
        else:
            return False  # nobody builds from a socket or a device
        return True

    def _add(self, path: str, kind: str, status: os.stat_result, size: int, link: str) -> None:
        try:
            path.encode()
            link.encode()
        except UnicodeEncodeError:
            raise Failure(f"the build context has a name that is not UTF-8: {os.fsencode(path)!r}") from None
        stamp = f"{status.st_ctime_ns:x}.{status.st_ino:x}"
        mode = stat.S_IMODE(status.st_mode)
        self.stats.append((path, kind, mode, size, status.st_mtime_ns, stamp, link))

    def send(self, client: "Client", told: "Callable[[int, int], None]") -> str:
        """Bring the engine's copy up to date.

        Args:
            client: the engine.
            told: gets bytes sent, and bytes in all.

        Returns:
            what the engine calls the context by.

        Raises:
            Failure: a file cannot be read, or changed while it was sent.
        """
        answer: Any = client.call("POST", f"/wherry/v1/build/context?key={quote(_name(self.path))}", body=self.stats)
        wanted = [self.stats[index] for index in answer["wanted"]]
        total = sum(entry[3] for entry in wanted)
        if wanted:
            self._upload(client, str(answer["id"]), wanted, total, told)
        told(total, total)
        return str(answer["id"])

    def _upload(
        self,
        client: "Client",
        id_: str,
        wanted: "list[tuple[str, str, int, int, int, str, str]]",
        total: int,
        told: "Callable[[int, int], None]",
    ) -> None:
        connection = client.connect()
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(total)}
        connection.send("PUT", f"/wherry/v1/build/context?id={id_}", headers)
        sock, done = connection.sock.fileno(), 0
        for path, _kind, _mode, size, *_ in wanted:
            try:
                held = os.open(f"{self.path}/{path}", inodes.HOLD)
                fd = inodes.read_held(held, path)
            except HostileInput as error:
                connection.close()
                raise Failure(str(error)) from None
            except OSError as error:
                connection.close()
                raise Failure(f"open {self.path}/{path}: {error.strerror}") from None
            try:
                offset = 0
                while offset < size:
                    try:
                        count = os.sendfile(sock, fd, offset, min(size - offset, _PIECE))
                    except OSError as error:
                        raise Failure(f"sending the build context: {error.strerror}") from None
                    if not count:
                        raise Failure(f"{path} changed while it was sent")
                    offset += count
                    done += count
                    told(done, total)
            except Failure:
                connection.close()
                raise
            finally:
                os.close(fd)
        response = connection.head()
        response.adopt(client)
        response.check().read()


def _name(path: str) -> str:
    """What a directory is called: by machine, user and path."""
    machine = ""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            machine = file.read().strip()
    except OSError:
        machine = os.uname().nodename
    return f"{machine}:{os.getuid()}:{os.path.realpath(path)}"
