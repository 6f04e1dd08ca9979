"""Who may use a data root and an exec root: taken before anything in them is adopted, ended or written.

Each has a file that one engine holds locked (flock(2): it goes with the process, however that ends). What the files say
outlives the engine, because containers do: the data root's which exec root it was used with, the exec root's which data
root its containers and helpers are of. A data root is known by its path and by a name that it gave itself.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
from typing import Any

from wherry.errors import Conflict, KernelError
from wherry.linux.files import write_atomic
from wherry.linux.process import is_alive
from wherry.paths import Roots

log = logging.getLogger("wherry.engine")

_SHOWN = 4096


class Holding:
    """Both roots, held until `close`."""

    def __init__(self, *fds: int) -> None:
        self._fds = fds

    def close(self) -> None:
        """Let both go."""
        for fd in self._fds:
            os.close(fd)


def hold(roots: Roots) -> Holding:
    """Take both roots, or neither; of what lives in them nothing is touched.

    Raises:
        Conflict: another engine has one of them, or containers live that would be out of reach: those of this data
            root under another exec root, or another data root's under this exec root.
    """
    os.makedirs(roots.data, mode=0o711, exist_ok=True)
    data = _lock(roots.lock)
    if isinstance(data, str):
        raise Conflict(f"the data root {roots.data} is in use by another wherryd (pid {_line(data, 0)})")
    fds = [data]
    try:
        _check_elsewhere(roots, _line(_text(data), 1))
        os.makedirs(roots.run, mode=0o711, exist_ok=True)
        run = _lock(roots.run_lock)
        if isinstance(run, str):
            raise Conflict(
                f"the exec root {roots.run} is in use by another wherryd (pid {_line(run, 0)}, "
                f"data root {_line(run, 1)}): give this one an --exec-root of its own"
            )
        fds.append(run)
        name = _name(roots)
        _check_owner(roots, _text(run), name)
        _write(data, str(os.getpid()), roots.run)
        _write(run, str(os.getpid()), roots.data, name)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return Holding(*fds)


def check_pidfile(path: str) -> None:
    """Say before anything is done that a pid file is a running engine's; the file of one that was killed is nobody's.

    Raises:
        Conflict: it is.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _take_pidfile(fd, path)
    finally:
        os.close(fd)


def write_pidfile(path: str) -> int:
    """Write our pid; returns the descriptor that marks the file as ours until it closes.

    Raises:
        Conflict: it is a running engine's.
        OSError: it cannot be written.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take_pidfile(fd, path)
            if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)):
                _write(fd, str(os.getpid()))
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its owner removed it in this moment


def _take_pidfile(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            f"the pid file {path} is in use by another wherryd (pid {_line(_text(fd), 0)}): "
            "give this one a --pidfile of its own"
        ) from None


def _lock(path: str) -> int | str:
    """The descriptor that holds it, or what its holder wrote into it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return _text(fd)
        finally:
            os.close(fd)
    return fd


def _check_elsewhere(roots: Roots, run: str) -> None:
    """Containers of ours that live under another exec root can be reached from there alone."""
    if run and run != roots.run and (living := _living_in(f"{run}/containers", f"{roots.data}/containers")):
        raise Conflict(
            f"{_count(living)} of the data root {roots.data} under the exec root {run}, "
            f"as {living[0]}: start wherryd with --exec-root {run}"
        )


def _check_owner(roots: Roots, text: str, name: str) -> None:
    """What another data root's killed engine left under our exec root may still run."""
    owner, named = _line(text, 1), _line(text, 2)
    if not owner or (owner == roots.data and name in (named, "")):
        return
    living = [*_living_in(f"{roots.run}/containers"), *_living_in(f"{roots.run}/helpers")]
    if living:
        raise Conflict(
            f"{_count(living)} of the data root {owner} under the exec root {roots.run}, "
            f"as {living[0]}: give this wherryd an --exec-root of its own, or start it with --data-root {owner}"
        )


def _count(living: list[str]) -> str:
    return f"{len(living)} containers run" if len(living) > 1 else "a container runs"


def _living_in(directory: str, known: str = "") -> list[str]:
    """The names (12 characters) of what lives there: its monitor, or its process 1.

    Args:
        known: only what has a directory there, too.
    """
    found = []
    for id_ in _names(directory):
        if known and not os.path.isdir(f"{known}/{id_}"):
            continue
        state = _read_state(f"{directory}/{id_}/state.json")
        if any(_lives(state.get(who)) for who in ("monitor", "init")):
            found.append(id_[:12])
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _read_state(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _lives(process: Any) -> bool:
    return isinstance(process, dict) and bool(process.get("pid")) and is_alive(process["pid"], process["start_time"])


def _name(roots: Roots) -> str:
    """The name that the data root gave itself: a path may lead elsewhere tomorrow."""
    try:
        with contextlib.suppress(FileNotFoundError), open(roots.identity, encoding="ascii") as file:
            if name := file.read().strip():
                return name
        name = secrets.token_hex(16)
        write_atomic(roots.identity, f"{name}\n".encode())
    except KernelError as error:
        log.warning("the data root gets no name of its own: %s", error)  # a full disk is no reason not to start
        return ""
    return name


def _text(fd: int) -> str:
    return os.pread(fd, _SHOWN, 0).decode(errors="surrogateescape")


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number] if len(lines) > number else ""


def _write(fd: int, *lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))
