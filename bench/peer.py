"""The peer: the newest dockerd to be had from Debian, beside everything else, with roots of its own."""

import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PACKAGES = "docker.io,iptables,ca-certificates"
NEWEST_SUITE = "trixie"


class Peer:
    """A running dockerd.

    Args:
        directory: where its state lies; the same disk as the engine's it is compared with.
        root: a Debian root to run it in, or None for the machine's own.
        enter: a command's beginning that puts it into a network namespace, or nothing.
    """

    def __init__(self, directory: Path, root: Path | None, enter: Sequence[str] = ()) -> None:
        self.directory = directory
        self.root = root
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
        if self.root is None:
            command = [*self._inside, "dockerd", *flags]
        else:
            command = [
                *self._inside,
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                self._enter(),
                "sh",
                *flags,
            ]
        with open(d / "dockerd.log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while self._docker("version", "--format", "{{.Server.Version}}").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start, see {d}/dockerd.log")
            select.select([], [], [], 0.1)

    def _enter(self) -> str:
        root, d = self.root, self.directory
        return (
            f"set -e; mount --rbind {root} {root}; mount --make-rprivate {root}; cd {root}; "
            "mount --bind /proc proc; mount --rbind /sys sys; mount --rbind /dev dev; "
            f"mkdir -p .{d}; mount --bind {d} .{d}; "
            'exec chroot . dockerd "$@"'
        )

    def _docker(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run(["docker", *argv], env=env, capture_output=True, text=True, check=False)

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


def newest(state: Path, directory: Path, enter: Sequence[str] = ()) -> Peer | None:
    """Find the newest dockerd: the machine's own, or one in a root made of the newest Debian's packages.

    Returns:
        The peer, not started; None where neither can be had (it says why).
    """
    own = shutil.which("dockerd")
    version = _version(own) if own else (0,)
    if version >= (26,):
        return Peer(directory, None, enter)
    root = state / "peer"
    if not (root / "usr/sbin/dockerd").exists() and not _make_root(root):
        if own is None:
            print("no dockerd here: figures of ours only")
            return None
        return Peer(directory, None, enter)
    return Peer(directory, root, enter)


def _version(dockerd: str) -> tuple[int, ...]:
    words = subprocess.run([dockerd, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(int(part) for part in words[2].rstrip(",").split("+")[0].split(".") if part.isdigit())


def _make_root(root: Path) -> bool:
    print(f"making a {NEWEST_SUITE} root for the newest dockerd (about a minute, once)", flush=True)
    done = subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=apt",
            f"--include={PACKAGES}",
            NEWEST_SUITE,
            str(root),
            mirror(NEWEST_SUITE),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"it could not be made: {done.stderr.strip().splitlines()[-1:]}")
        shutil.rmtree(root, ignore_errors=True)
        return False
    return True


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
