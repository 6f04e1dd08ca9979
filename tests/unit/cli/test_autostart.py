"""Starting the engine when nobody answers."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from wherry.client import access, autostart
from wherry.client.address import Address
from wherry.client.errors import CannotConnect
from wherry.client.http import Client

NOBODY = OSError(errno.ENOENT, "nobody")
Start = Callable[[str], Client]
LISTEN = """
import os, socket, sys, time
session = os.getsid(0) == os.getpid()
print("cwd", os.getcwd(), "session", session, "open", sorted(os.listdir("/proc/self/fd")), flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
for _ in range(3):
    connection, _ = listener.accept()
    data = connection.recv(1000)
    if data:
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
        break
"""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """A default socket of the test's own, and a log."""
    monkeypatch.setattr(autostart, "LOG_FILE", str(tmp_path / "log"))
    return Address(f"unix://{tmp_path}/s", path=f"{tmp_path}/s", chosen=False)


def _engine(monkeypatch: pytest.MonkeyPatch, code: str, *arguments: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", code, *arguments]
    monkeypatch.setattr(autostart, "_command", lambda: (sys.executable, command, "a test's engine"))


@pytest.mark.root
def test_engine_is_started_once_and_waited_for(
    address: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It runs at / in a session of its own, writes to the log, inherits no descriptor; the command goes on."""
    _engine(monkeypatch, LISTEN, address.path)
    start, end = os.pipe()
    os.set_inheritable(end, True)
    client = Client(address, autostart.start_engine)
    assert client.call("GET", "/") == {}
    client.close()
    os.close(end)
    assert os.read(start, 1) == b""  # nobody else holds the other end
    os.close(start)
    assert capfd.readouterr().err == "wherry: starting a test's engine\n"
    # 3 is the listing's own
    assert (tmp_path / "log").read_text() == "cwd / session True open ['0', '1', '2', '3']\n"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o640
    assert Path.cwd() != Path("/")
    os.wait()


@pytest.mark.root
def test_engine_that_ends_is_reported(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that fails names its status and its log, and nobody waits for the whole deadline."""
    _engine(monkeypatch, "raise SystemExit(3)")
    monkeypatch.setattr(autostart, "_GRACE", 0.05)
    with pytest.raises(CannotConnect, match=r"wherryd ended with status 3, see .*/log"):
        autostart.start_engine(address, NOBODY)


@pytest.mark.root
def test_the_engines_last_line_is_shown(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this start wrote into the log is in the message; lines of earlier starts are not."""
    Path(autostart.LOG_FILE).write_text("an older line\n")
    _engine(monkeypatch, "import sys; print('wherryd: daemon.json: unknown key', file=sys.stderr); raise SystemExit(1)")
    monkeypatch.setattr(autostart, "_GRACE", 0.05)
    with pytest.raises(CannotConnect, match=r"wherryd ended with status 1: daemon\.json: unknown key, see .*/log"):
        autostart.start_engine(address, NOBODY)
    assert autostart._last_line(os.stat(autostart.LOG_FILE).st_size) == ""


@pytest.mark.root
def test_slow_engine_is_given_up(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not listen in time is reported."""
    _engine(monkeypatch, "import time; time.sleep(0.5)")
    monkeypatch.setattr(autostart, "_DEADLINE", 0.1)
    with pytest.raises(CannotConnect, match="does not listen at"):
        autostart.start_engine(address, NOBODY)
    os.wait()


def test_others_are_told_what_to_do(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root reads one line with the socket and the way into its group."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotConnect) as caught:
        autostart.start_engine(address, NOBODY)
    assert address.text in str(caught.value)
    assert "usermod -aG wherry USER" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_way_into_the_group_fits_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's own group is named; without a group of ours it has to be made first."""
    path = tmp_path / "s"
    monkeypatch.setattr(access, "_groups", lambda: [["root", "x", "0", ""], ["boats", "x", "4711", ""]])
    made = "groupadd --system wherry; usermod -aG wherry USER; restart wherryd"
    assert access.how_to_join(str(path)) == made
    monkeypatch.setattr(access, "_groups", lambda: [["wherry", "x", "4712", ""], ["boats", "x", "4711", ""]])
    assert access.how_to_join(str(path)) == "usermod -aG wherry USER"
    found = SimpleNamespace(st_gid=4711)
    monkeypatch.setattr(access, "os", SimpleNamespace(stat=lambda _path: found))
    assert access.how_to_join(str(path)) == "usermod -aG boats USER"


def test_chosen_address_is_never_started(tmp_path: Path) -> None:
    """A socket that was chosen is somebody's own engine: it is not ours to start."""
    chosen = Address(f"unix://{tmp_path}/s", path=f"{tmp_path}/s", chosen=True)
    with pytest.raises(CannotConnect, match=r"Is wherryd running\?"):
        Client(chosen, autostart.start_engine).call("GET", "/")
