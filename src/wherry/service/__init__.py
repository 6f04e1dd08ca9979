"""wherryd as a service of the machine: an init script, a unit where systemd is installed, and their settings."""

import os
import shutil
import subprocess
from importlib.resources import files

from wherry.errors import KernelError, NotFound
from wherry.store.atomic import write_atomic

GROUP = "wherry"
INIT, DEFAULTS, LOGROTATE = "etc/init.d/wherry", "etc/default/wherry", "etc/logrotate.d/wherry"
UNIT = "etc/systemd/system/wherry.service"
_SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")


def register(program: str, root: str = "/") -> list[str]:
    """Install the service; done again it brings the files up to date. The settings that are there are kept.

    Args:
        program: wherryd, by its absolute path.
        root: below which the files go. With another one than `/` they are written and no program is run.

    Returns:
        What was made, one line each.

    Raises:
        NotFound: `program` cannot be executed.
        KernelError: a file cannot be written, or a program of the system failed.
    """
    if not os.access(program, os.X_OK):
        raise NotFound(f"{program} cannot be executed")
    settings = os.path.join(root, DEFAULTS)
    wanted = [(INIT, "wherry.init", 0o755)]
    if not os.path.exists(settings):
        wanted.append((DEFAULTS, "wherry.default", 0o644))
    if os.path.isdir(os.path.join(root, "etc/logrotate.d")):
        wanted.append((LOGROTATE, "wherry.logrotate", 0o644))
    systemd = any(os.path.exists(os.path.join(root, path)) for path in _SYSTEMD)
    if systemd:
        wanted.append((UNIT, "wherry.unit", 0o644))
    said = []
    for path, template, mode in wanted:
        target = os.path.join(root, path)
        text = (files(__package__) / template).read_text().replace("@PROGRAM@", program).replace("@DEFAULTS@", settings)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write_atomic(target, text.encode(), mode)
        except OSError as error:
            raise KernelError("write", error.errno or 0, target) from None
        said.append(target)
    if root == "/":
        _run("groupadd", "--system", "--force", GROUP)
        _run("update-rc.d", "wherry", "defaults")
        if systemd and _systemd_runs():
            _run("systemctl", "daemon-reload")
            _run("systemctl", "enable", "wherry.service")
    return said


def unregister(root: str = "/") -> list[str]:
    """Take the service away, as `register` made it; the settings, the log and what runs stay.

    Returns:
        What was removed, one line each.

    Raises:
        KernelError: a file cannot be removed, or a program of the system failed.
    """
    there = os.path.exists(os.path.join(root, UNIT))
    if root == "/" and there and _systemd_runs():
        _run("systemctl", "disable", "wherry.service")
    said = []
    for path in (INIT, LOGROTATE, UNIT):
        target = os.path.join(root, path)
        try:
            os.unlink(target)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise KernelError("remove", error.errno or 0, target) from None
        said.append(target)
    if root == "/":
        _run("update-rc.d", "wherry", "remove")
        if there and _systemd_runs():
            _run("systemctl", "daemon-reload")
    return said


def _systemd_runs() -> bool:
    return os.path.isdir("/run/systemd/system")


def _run(*words: str) -> None:
    """A program of the system, where there is one; what it says is said when it fails."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = shutil.which(words[0], path=path)
    if program is None:
        return
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelError(f"{' '.join(words)}: {done.stderr.strip()}")
