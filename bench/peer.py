"""The peer: the dockerd that the tests use, of the newest Debian, with roots of its own."""

import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import peers

plugins = peers.plugins
peers.prepare()  # the docker command of both engines is the suite's, too


class Peer:
    """A running dockerd.

    Args:
        directory: where its state lies; the same disk as the engine's it is compared with.
        enter: a command's beginning that puts it into a network namespace, or nothing.
    """

    def __init__(self, directory: Path, enter: Sequence[str] = ()) -> None:
        self.directory = directory
        self.host = f"unix://{directory / 'docker.sock'}"
        self._bridge = f"wbp{os.getpid() % 100000}"
        self._inside = enter
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Execute it and wait for its socket.

        Raises:
            RuntimeError: it ended, or did not answer within a minute; its log says why.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run([*self._inside, "ip", "link", "add", self._bridge, "type", "bridge"], check=True)
        subprocess.run([*self._inside, "ip", "addr", "add", "172.29.251.1/24", "dev", self._bridge], check=True)
        subprocess.run([*self._inside, "ip", "link", "set", self._bridge, "up"], check=True)
        d = self.directory
        flags = [
            *("--data-root", f"{d}/data", "--exec-root", f"{d}/exec", "--pidfile", f"{d}/pid"),
            *("-H", self.host, "--bridge", self._bridge),
        ]
        command = peers.inside("dockerd", *flags, shared=(d,), enter=tuple(self._inside))
        with open(d / "dockerd.log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while self._docker("version", "--format", "{{.Server.Version}}").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start, see {d}/dockerd.log")
            select.select([], [], [], 0.1)

    def _docker(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run([peers.docker(), *argv], env=env, capture_output=True, text=True, check=False)

    def version(self) -> str:
        """The server's version."""
        return self._docker("version", "--format", "{{.Server.Version}}").stdout.strip()

    def stop(self) -> None:
        """End it and remove what it made."""
        if self._process is not None:
            pid = self.directory / "pid"
            if pid.exists():
                os.kill(int(pid.read_text()), 15)
            else:
                self._process.terminate()
            self._process.wait(60)
        subprocess.run([*self._inside, "ip", "link", "del", self._bridge], check=False, capture_output=True)
        self._forget_rules()

    def _forget_rules(self) -> None:
        """Take the rules away that dockerd leaves for its bridge."""
        saved = subprocess.run([*self._inside, "iptables-save"], capture_output=True, text=True, check=False).stdout
        table = ""
        for line in saved.splitlines():
            if line.startswith("*"):
                table = line[1:]
            words = shlex.split(line) if line.startswith("-A ") else []
            if self._bridge in words:
                command = [*self._inside, "iptables", "-w", "-t", table, "-D", *words[1:]]
                subprocess.run(command, check=False, capture_output=True)


def newest(directory: Path, enter: Sequence[str] = ()) -> Peer | None:
    """Return the newest dockerd, not started; None where it cannot be had (the reason is printed)."""
    try:
        peers.make()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no dockerd here, figures of ours only: {getattr(error, 'stderr', None) or error}")
        return None
    return Peer(directory, enter)


def mirror(suite: str) -> str:
    """The machine's own Debian mirror, as one apt line."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    site = next((line.split()[0] for line in listed if line.endswith(" main") and "security" not in line), "")
    return f"deb {site} {suite} main"
