"""The import budget: what the short-lived command may load, and when it loads which of its own modules."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src"
# what any command may load of the standard library; each name was measured to cost next to nothing
ALLOWED = frozenset(
    """
    __main__ _abc _codecs _collections_abc _frozen_importlib _frozen_importlib_external _imp _io _json _signal _socket
    _sre _stat _thread _warnings _weakref abc binascii builtins codecs encodings encodings.aliases encodings.ascii
    encodings.latin_1 encodings.utf_8 encodings.utf_8_sig errno fcntl genericpath io itertools marshal math os os.path
    posix posixpath select stat sys termios time warnings winreg zipimport
    """.split()
)

HELP = {
    *("cli", "errors", "values", "values.gotext"),
    *(f"cli.{name}" for name in ("help", "table", "flags", "failure", "main", "output")),
}


def _loaded(code: str, **env: str) -> set[str]:
    """Modules that an interpreter as bare as the launcher's has after running something, and not before.

    What it has before is the interpreter's own affair: 3.13 loads `linecache` whenever it is given code by `-c`.
    """
    return _modules(code, **env) - _modules("pass")


def _modules(code: str, **env: str) -> set[str]:
    program = (
        f"import sys\nsys.path.append({str(SOURCE)!r})\n{code}\n"
        "sys.stdout.flush(); sys.stderr.write('\\nMODULES ' + ' '.join(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **env},
        check=True,
        timeout=30,
    )
    return set(done.stderr.decode().rpartition("MODULES ")[2].split())


def _own(modules: set[str]) -> set[str]:
    return {name.removeprefix("wherry.") for name in modules if name.startswith("wherry.")}


def _foreign(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] != "wherry"} - ALLOWED


def test_every_module_keeps_the_budget() -> None:
    """No module of the command or the client loads what is not on the list, but what unpacks and speaks TLS."""
    names = [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for package in ("cli", "client")
        for path in sorted((SOURCE / "wherry" / package).rglob("*.py"))
        # the latter two are imported where an archive has come, and for an address with TLS, and only there
        if path.name not in ("__init__.py", "unpacking.py", "tls.py")
    ]
    assert len(names) > 30
    assert _foreign(_loaded("\n".join(f"import {name}" for name in names))) == set()


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["--help"], HELP),
        (["ps"], None),
        (["version"], None),
        (["run", "busybox"], None),
        (["inspect", "x"], None),
    ],
)
def test_commands_keep_the_budget(words: list[str], own: set[str] | None) -> None:
    """A command loads its own module and what that needs; help loads no command at all."""
    code = f"from wherry.cli.main import main\nmain({words!r})"
    modules = _loaded(code, WHERRY_HOST="unix:///nonexistent/wherry.sock")
    assert _foreign(modules) == set()
    if own is not None:
        assert _own(modules) == own


def test_ps_loads_nothing_of_run() -> None:
    """Listing needs no stream, no terminal, no configuration."""
    modules = _own(_loaded("from wherry.cli.main import main\nmain(['ps'])", WHERRY_HOST="unix:///nonexistent/s"))
    assert not modules & {"cli.streams", "cli.terminal", "cli.signals", "cli.run_config", "client.autostart"}
