"""`cp`: files and directories into a container and out of it, or as a tar archive on the standard streams.

What an engine sends is a stranger's archive to us: nothing of it is written outside of the place that was named.
"""

import os

from wherry.cli.cppaths import Side, asserts_directory, kept_end, placed, renaming, split, split_argument
from wherry.cli.failure import Failure, file_failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, write_all
from wherry.client.http import quote
from wherry.errors import WherryError
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.connection import Response

_TAR = {"Content-Type": "application/x-tar"}
_DIRECTORY, _LINK, _OTHER = 1 << 31, 1 << 27, (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21)
_FOLLOWED = 10
_ADVICE = "root gets it with --archive"


def _cp(command: Invocation) -> None:
    source, target = command.args
    if not source:
        raise Failure("source can not be empty")
    if not target:
        raise Failure("destination can not be empty")
    from_container, from_path = split_argument(source)
    to_container, to_path = split_argument(target)
    if from_container and to_container:
        raise Failure("copying between containers is not supported")
    if from_container:
        if command["chown"]:
            raise Failure("--chown is for copies into a container")
        _out(command, from_container, from_path, to_path)
    elif to_container:
        _in(command, from_path, to_container, to_path)
    else:
        raise Failure("must specify at least one container source")


def _tell(command: Invocation, size: int, where: str) -> None:
    if not command["quiet"] and os.isatty(2):
        err(f"Successfully copied {sizes.human(size)} to {where}")


def _local(path: str) -> str:
    return kept_end(os.path.abspath(path), path)


# -- out of a container


def _stat(command: Invocation, container: str, path: str) -> "dict[str, Any]":
    response = command.client.request("HEAD", f"/containers/{quote(container)}/archive", {"path": path})
    return _path_stat(response)


def _path_stat(response: "Response") -> "dict[str, Any]":
    from binascii import Error, a2b_base64

    from wherry.client.quickjson import loads

    try:
        value = loads(a2b_base64(response.headers.get("x-docker-container-path-stat", "")))
    except (Error, ValueError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("mode"), int):
        raise Failure("unable to decode container path stat header")
    return value


def _followed(path: str, link: str) -> "tuple[str, str]":
    """A link's target with the end that the user gave the path, and the name that the user gave."""
    resolved = kept_end(link, path)
    name = os.path.basename(path.rstrip("/") or "/")
    return resolved, name if name != os.path.basename(resolved.rstrip("/") or "/") else ""


def _out(command: Invocation, container: str, path: str, target: str) -> None:
    if target != "-":
        target = _local(target)
        _check_output(target)
    rename = ""
    if command["follow-link"]:
        try:
            found = _stat(command, container, path)
        except WherryError:
            found = {"mode": 0}  # the copy itself says what is wrong
        if found["mode"] & _LINK:
            link = os.path.join(os.path.dirname(path.rstrip("/")), str(found.get("linkTarget") or ""))
            path, rename = _followed(path, link)
    response = command.client.request("GET", f"/containers/{quote(container)}/archive", {"path": path})
    if target == "-":
        while data := response.read_some():
            write_all(1, data)
        return
    is_dir = bool(_path_stat(response)["mode"] & _DIRECTORY)
    trusted = bool(command["archive"]) and os.geteuid() == 0
    size = _unpack(response, Side(path, True, is_dir), rename, target, harmless="" if trusted else _ADVICE)
    _tell(command, size, target)


def _check_output(path: str) -> None:
    parent = os.path.dirname(os.path.normpath(path))
    if not os.path.exists(parent):
        raise Failure(f'invalid output path: directory "{parent}" does not exist')


def _destination(path: str) -> Side:
    """A path of this machine that is written to; links are followed."""
    for _ in range(_FOLLOWED):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            parent = split(path)[0]
            if not os.path.isdir(parent):
                reason = "not a directory" if os.path.lexists(parent) else f"lstat {parent}: no such file or directory"
                raise Failure(reason) from None
            return Side(path, False, False)
        except OSError as error:
            raise file_failure("stat", path, error) from None
        if found.st_mode & 0o170000 != 0o120000:
            return Side(path, True, found.st_mode & 0o170000 == 0o040000)
        link = os.readlink(path)
        path = os.path.join(os.path.dirname(path), link)
    raise Failure(f"{path}: too many links")


class _Body:
    """A response as the tar reader wants it."""

    __slots__ = ("response", "size")

    def __init__(self, response: "Response") -> None:
        self.response = response
        self.size = 0

    def piece(self) -> bytes:
        data = self.response.read_some()
        self.size += len(data)
        return data


def _unpack(response: "Response", source: Side, rename: str, target: str, *, harmless: str) -> int:
    from wherry.snapshots.copyin import Into, read_copy
    from wherry.snapshots.limits import Limits

    # what a link was followed to has its own name in the archive, and the user's in the end
    old = split(source.path)[1]
    directory, _, new = placed(Side(source.path, True, source.is_dir, rename), _destination(target))
    how = Into(
        owner=(os.geteuid(), os.getegid()),
        keep_kinds=True,
        shown_at=directory,
        rename=renaming(old, new),
        attributes=os.geteuid() == 0,
        harmless=harmless,
    )
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise file_failure("open", directory, error) from None
    body = _Body(response)
    try:
        read_copy(body, fd, (fd, b""), how, Limits())
        while body.piece():
            continue
    finally:
        os.close(fd)
    return body.size


# -- into a container


def _in(command: Invocation, path: str, container: str, target: str) -> None:
    if command["chown"] and command["archive"]:
        raise Failure("conflicting options: --archive and --chown")
    into = _remote(command, container, target)
    if path == "-":
        if not into.is_dir:
            raise Failure(f'destination "{container}:{target}" must be a directory')
        _send(command, container, into.path, 0)
        return
    source = _source(_local(path), follow=command["follow-link"])
    directory, _, name = placed(source, into)
    size = _send_tree(command, container, directory, source, name)
    _tell(command, size, f"{container}:{target}")


def _remote(command: Invocation, container: str, target: str) -> Side:
    """What a path of a container leads to. What is wrong with it is told by the copy itself."""
    path = target
    try:
        found = _stat(command, container, path)
        if found["mode"] & _LINK:
            path = os.path.join(os.path.dirname(path), str(found.get("linkTarget") or ""))
            found = _stat(command, container, path)
    except WherryError:
        return Side(path, False, False)
    if found["mode"] & _OTHER:
        raise Failure(f'destination "{container}:{target}" must be a directory or a regular file')
    return Side(path, True, bool(found["mode"] & _DIRECTORY))


def _source(path: str, *, follow: bool) -> Side:
    """A path of this machine that is read. Raises `Failure` where nothing is there."""
    rename = ""
    if follow:
        path, rename = _followed(path, os.path.realpath(path))
    else:
        head, tail = os.path.split(path)
        if head and tail:
            path = os.path.join(os.path.realpath(head), tail)
    try:
        mode = os.lstat(path).st_mode
    except NotADirectoryError:
        raise Failure("not a directory") from None
    except OSError as error:
        raise file_failure("lstat", path, error) from None
    is_dir = mode & 0o170000 == 0o040000
    if asserts_directory(path) and not is_dir:
        raise Failure("not a directory")
    return Side(path, True, is_dir, rename)


def _send_tree(command: Invocation, container: str, directory: str, source: Side, name: str) -> int:
    """Archive what is here while it is sent."""
    import _thread

    from wherry.snapshots.copyout import write_copy
    from wherry.snapshots.located import locate

    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found = locate(root, source.path)
    found.name = name
    read, write = os.pipe2(os.O_CLOEXEC)
    failed: list[BaseException] = []
    sent = [0]
    done = _thread.allocate_lock()
    done.acquire()

    def archive() -> None:
        try:
            sent[0] = write_copy(found, write)
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that waits
            failed.append(error)
        finally:
            os.close(write)
            done.release()

    _thread.start_new_thread(archive, ())
    try:
        _send(command, container, directory, read)
    except WherryError:
        # the pipe stays open: its writer, which ends with this process, must not be told by a signal
        if failed:
            raise failed[0] from None
        raise
    done.acquire()
    os.close(read)
    if failed:
        raise failed[0]
    return sent[0]


def _send(command: Invocation, container: str, directory: str, fd: int) -> None:
    query = {
        "path": directory,
        "noOverwriteDirNonDir": True,
        "copyUIDGID": command["archive"] or None,
        "chown": command["chown"],
    }
    response = command.client.request("PUT", f"/containers/{quote(container)}/archive", query, upload=fd, headers=_TAR)
    response.read()


CP = Command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\twherry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout.",
    _cp,
    (
        Flag("archive", "a", "bool", "Keep owners in a container; out of one, as root: setuid bits and devices too"),
        Flag("chown", "", "string", "Give what is copied into the container to USER[:GROUP]"),
        Flag("follow-link", "L", "bool", "Always follow symbol link in SRC_PATH"),
        Flag(
            "quiet",
            "q",
            "bool",
            "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is "
            "attached",
        ),
    ),
    arguments=(2, 2),
    aliases=("container cp", "cp"),
)
COMMANDS = {"cp": CP, "container cp": CP}
