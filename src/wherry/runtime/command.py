"""Find and execute the program, in the container, with Docker's words for what goes wrong.

`os.execvp` is not used: its error path imports, and inside a container that would read the container's files.
"""

import errno
import os
import stat

from wherry.errors import CommandNotExecutable, CommandNotFound, KernelError, WherryError
from wherry.values.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


def find(name: str, environment: "Mapping[str, str]") -> str:
    """Where the program `name` is: as it stands if it has a slash, else in the PATH of `environment`.

    Raises:
        CommandNotFound: no such file.
        CommandNotExecutable: the files of that name are not executable, or are directories.
    """
    if "/" in name:
        _check(name, name)
        return name
    denied = False
    for directory in environment.get("PATH", "").split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            status = os.stat(path)
        except OSError as error:
            denied = denied or error.errno == errno.EACCES
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if status.st_mode & 0o111:
            return path
        denied = True
    if denied:
        raise CommandNotExecutable(f"exec: {quote(name)}: permission denied", name=name)
    raise CommandNotFound(f"exec: {quote(name)}: executable file not found in $PATH", name=name)


def _check(path: str, name: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        words = _words(error.errno)
        if error.errno in _ABSENT:
            raise CommandNotFound(f"exec: {quote(name)}: stat {path}: {words}", name=name) from None
        raise CommandNotExecutable(f"exec: {quote(name)}: {words}", name=name) from None
    if stat.S_ISDIR(status.st_mode):
        raise CommandNotExecutable(f"exec: {quote(name)}: is a directory: permission denied", name=name)
    if not status.st_mode & 0o111:
        raise CommandNotExecutable(f"exec: {quote(name)}: permission denied", name=name)


def execute(path: str, args: "tuple[str, ...]", environment: "Mapping[str, str]") -> "NoReturn":
    """execve(2). Returns only as an error.

    Raises:
        CommandNotFound: the file, or its interpreter, is not there.
        CommandNotExecutable: it cannot be executed.
        KernelError: anything else.
    """
    try:
        os.execve(path, args, environment)
    except OSError as error:
        raise failure(args[0], error.errno or 0) from None


def failure(name: str, number: int) -> WherryError:
    """The error of an execve(2) of the program `name` that failed with errno `number`."""
    words = _words(number)
    if number in _ABSENT:
        return CommandNotFound(f"exec: {quote(name)}: {words}", name=name)
    if number in (errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELIBBAD, errno.EISDIR, errno.ETXTBSY, errno.ELOOP):
        return CommandNotExecutable(f"exec: {quote(name)}: {words}", name=name)
    return KernelError(f"exec: {quote(name)}", number)


def _words(number: int | None) -> str:
    return os.strerror(number or 0).lower()
