"""wherryd as a service: its init script in a private root, and what is registered and removed."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import WHERRYD, EngineProcess, running, until
from wherry import service
from wherry.errors import NotFound

pytestmark = pytest.mark.root


class Service(EngineProcess):
    """An engine that its init script starts and stops."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.base / "root"
        service.register(WHERRYD, str(self.root))
        self.pidfile = self.base / "run/wherryd.pid"
        self.settings = self.root / service.DEFAULTS
        self.write("")

    def write(self, flags: str) -> None:
        """Settings for these roots, as an administrator writes them."""
        roots = f"--data-root {self.roots.data} --exec-root {self.roots.run}"
        self.settings.write_text(
            f'WHERRY_OPTS="{roots} {flags}"\nWHERRY_PIDFILE={self.pidfile}\nWHERRY_LOGFILE={self.log}\n'
        )

    def call(self, verb: str) -> "subprocess.CompletedProcess[str]":
        """Run the init script."""
        words = [str(self.root / service.INIT), verb]
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        """Start it by the script, which returns when it answers."""
        done = self.call("start")
        assert done.returncode == 0, done
        assert self.docker("version").code == 0

    def end(self) -> None:
        """End it by the script."""
        self.call("stop")

    def destroy(self) -> None:
        """End it and whatever it left."""
        self.write("")
        super().destroy()

    @property
    def listening(self) -> int:
        """The pid that the script knows."""
        return int(self.pidfile.read_text())


@pytest.fixture
def engine() -> Iterator[Service]:
    """Give an engine that the script has started."""
    made = Service()
    with running(made):
        yield made


def test_start_stop_restart_status(engine: Service) -> None:
    """Each verb does what it says and may be said twice; containers go on meanwhile, and there is a log."""
    engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    started = engine.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web").out
    status = engine.call("status")
    first = engine.listening
    assert (status.returncode, str(first) in status.stdout) == (0, True)
    assert engine.call("start").returncode == 0
    assert engine.listening == first
    assert engine.call("restart").returncode == 0
    assert engine.listening != first
    assert engine.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web").out == started
    assert [engine.call("stop").returncode for _ in range(2)] == [0, 0]
    assert engine.call("status").returncode == 3
    assert engine.docker("version", check=False).code == 1
    engine.start()
    assert engine.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web").out == started
    assert engine.log.read_text().count("API listens on") == 3
    assert engine.log.stat().st_mode & 0o7777 == 0o640
    assert engine.call("reload").returncode == 2


def test_after_a_kill(engine: Service) -> None:
    """A pid file that was left, even with a number that somebody else has now, keeps nobody from starting."""
    os.kill(engine.listening, signal.SIGKILL)
    until(lambda: engine.docker("version", check=False).code == 1, "wherryd is gone")
    assert engine.call("status").returncode == 1
    engine.pidfile.write_text(f"{os.getpid()}\n")
    assert engine.call("status").returncode == 1
    assert engine.call("stop").returncode == 0
    engine.start()
    assert engine.call("status").returncode == 0


def test_settings_that_are_wrong(engine: Service) -> None:
    """What wherryd says is said by the script too, which fails at once."""
    assert engine.call("stop").returncode == 0
    engine.write("--bip nonsense")
    done = engine.call("start")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert engine.call("status").returncode == 3


def test_register_and_unregister(tmp_path: Path) -> None:
    """The files name the program; settings and what is not ours stay; a unit only where systemd is installed."""
    root = str(tmp_path)
    script, settings, unit = (tmp_path / path for path in (service.INIT, service.DEFAULTS, service.UNIT))
    assert service.register("/bin/true", root) == [str(script), str(settings)]
    assert script.stat().st_mode & 0o7777 == 0o755
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    settings.write_text("WHERRY_OPTS=--debug\n")
    for path in ("etc/logrotate.d", "usr/lib/systemd"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/systemd").touch()
    wanted = [str(tmp_path / path) for path in (service.INIT, service.LOGROTATE, service.UNIT)]
    assert service.register("/bin/sh", root) == wanted
    assert "ExecStart=/bin/sh $WHERRY_OPTS\n" in unit.read_text()
    assert "WHERRYD=/bin/sh\n" in script.read_text()
    assert settings.read_text() == "WHERRY_OPTS=--debug\n"
    with pytest.raises(NotFound, match="cannot be executed"):
        service.register(str(settings), root)
    assert len(service.unregister(root)) == 3
    assert service.unregister(root) == []
    assert settings.exists()
    assert not [path for path in tmp_path.rglob("*") if "wherry" in path.name and path != settings]


def test_the_manager_is_told(own_engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NOTIFY_SOCKET` hears of the moment from which it listens, and of the end (sd_notify(3))."""
    own_engine.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        own_engine.launch()
        assert manager.recv(100) == b"READY=1"
        assert own_engine.docker("version").code == 0
        own_engine.stop()
        assert manager.recv(100) == b"STOPPING=1"
    monkeypatch.undo()
    own_engine.start()
