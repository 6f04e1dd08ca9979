"""What the tour stands on: an engine and a registry of its own, and commands that are shown as they run."""

import os
import pty
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent
BIN = HERE / ".venv" / "bin"
# images are kept there for the next tour
STATE = Path(os.environ.get("WHERRY_TOUR_STATE") or HERE / ".wherry-run")


class Stage:
    """One engine and one registry with roots of their own, and the commands a person would type against them.

    What the commands write for their user (`config.json`) lies in `scratch` too, which goes at the end; images stay
    in `STATE` for the next tour.
    """

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="wherry-tour-"))
        self.socket = self.scratch / "run" / "wherry.sock"
        self.env = {
            **os.environ,
            "WHERRY_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.scratch / "config"),
        }
        self.engine: subprocess.Popen[bytes] | None = None
        self.registry: subprocess.Popen[bytes] | None = None

    def start_engine(self) -> None:
        """Execute wherryd and wait until it answers.

        Raises:
            SystemExit: it does not start.
        """
        STATE.mkdir(parents=True, exist_ok=True)
        self.engine = execute(
            STATE / "wherryd.log",
            *("wherryd", "--data-root", str(STATE / "data"), "--exec-root", str(self.socket.parent)),
        )
        self._await(self.engine, lambda: self.quietly("version", "--format", "{{.Server.Version}}"), "wherryd")

    def start_registry(self, user: str, password: str) -> str:
        """Make a registry with one account, and serve it.

        Returns:
            Its `HOST:PORT`, on loopback.

        Raises:
            SystemExit: it does not start.
        """
        root = self.scratch / "registry"
        self.typed("wherry-registry", "user", "add", "--root", "registry", "--admin", "--password-stdin", user)
        account = ["user", "add", "--root", str(root), "--admin", "--password-stdin", user]
        subprocess.run([BIN / "wherry-registry", *account], input=password.encode(), check=True)
        address = f"127.0.0.1:{free_port()}"
        self.typed("wherry-registry", "serve", "--root", "registry", "--addr", address, after=" &")
        self.registry = execute(
            STATE / "registry.log", "wherry-registry", "serve", "--root", str(root), "--addr", address
        )
        self._await(self.registry, lambda: answers(address), "wherry-registry")
        return address

    def close(self) -> None:
        """Remove what the tour made but images, and end the engine and the registry."""
        if self.engine is not None:
            if self.engine.poll() is not None:
                self.start_engine()
            self.clear()
            end(self.engine)
        if self.registry is not None:
            end(self.registry)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def clear(self) -> None:
        """Remove what this tour made, or one that was interrupted: all but the base images."""
        if left := self.quietly("ps", "-aq").split():
            self.quietly("rm", "-f", *left)
        self.quietly("volume", "prune", "-af")
        self.quietly("network", "prune", "-f")
        names = self.quietly("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        if made := [name for name in names if name.startswith(("mine/", "127.0.0.1:"))]:
            self.quietly("rmi", *made)
        self.quietly("image", "prune", "-f")
        self.quietly("builder", "prune", "-af")

    def sh(self, *argv: str, code: int = 0, stdin: str | None = None) -> str:
        """Run `wherry …`, show it and what it prints as it prints it, and insist on its exit code.

        Returns:
            What it printed, without the last line's end.

        Raises:
            SystemExit: it ended with another code.
        """
        self.typed("wherry", *argv)
        text = ""
        with subprocess.Popen(
            [str(BIN / "wherry"), *argv],
            env=self.env,
            cwd=self.scratch,
            stdin=None if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            if stdin is not None:
                assert process.stdin is not None
                process.stdin.write(stdin)
                process.stdin.close()
            for line in process.stdout:
                text += line
                sys.stdout.write(line)
                sys.stdout.flush()
        if process.returncode != code:
            raise SystemExit(f"exit code {process.returncode}, expected {code}")
        if code:
            print(f"(exit code {code}, as it should be)")
        return text.strip()

    def quietly(self, *argv: str) -> str:
        """Run `wherry …` without showing it; returns what it printed."""
        done = subprocess.run([str(BIN / "wherry"), *argv], env=self.env, capture_output=True, check=False)
        return done.stdout.decode().strip()

    def bootstrap(self, image: str) -> None:
        """Make a base image, unless an earlier tour has."""
        if self.quietly("images", "-q", image):
            print(f"\n{image} is here from an earlier run (wherry image bootstrap {image} made it)")
        else:
            self.sh("image", "bootstrap", image)

    def get(self, url: str, shown: bool = True) -> str:
        """GET, again while the server behind it is still starting; returns the page."""
        if shown:
            self.typed("curl", url)
        deadline = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    page = str(answer.read().decode())
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                pause()
        if shown:
            print(page, end="")
        return page

    def terminal(self, *argv: str, keys: list[tuple[str, bytes]], code: int) -> None:
        """Run `wherry …` in a pseudo terminal: wait for each text, then type.

        Raises:
            SystemExit: it ended with another code, or before all was typed.
        """
        self.typed("wherry", *argv, after="      # in a pseudo terminal")
        pid, master = pty.fork()
        if pid == 0:
            os.execve(str(BIN / "wherry"), ["wherry", *argv], self.env)
        seen = b""
        waiting = list(keys)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if waiting and waiting[0][0].encode() in seen and is_raw(master):
                seen = b""
                os.write(master, waiting.pop(0)[1])
            ready, _, _ = select.select([master], [], [], 0.05)
            if not ready:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            seen += data
            sys.stdout.write(data.decode(errors="replace").replace("\x1b[6n", ""))
            sys.stdout.flush()
        os.close(master)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(f"\n(exit code {status}, as docker's)")
        if status != code or waiting:
            raise SystemExit(f"exit code {status}, expected {code}; not typed: {waiting}")

    def typed(self, *argv: str, after: str = "") -> None:
        """Show a command as a person would type it."""
        print(f"\n$ {shlex.join(argv)}{after}", flush=True)

    def _await(self, process: subprocess.Popen[bytes], ready: Callable[[], object], name: str) -> None:
        deadline = time.monotonic() + 30
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start, see {STATE}")
            pause()


def execute(log: Path, program: str, *argv: str) -> subprocess.Popen[bytes]:
    """Start one of our programs in the background, what it says going to `log`."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(BIN / program), *argv],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program to end, and wait for it."""
    process.terminate()
    process.wait(30)


def say(text: str) -> None:
    """A headline."""
    print(f"\n--- {text}", flush=True)


def pause() -> None:
    """Between two looks at something that somebody else does."""
    select.select([], [], [], 0.02)


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    """Whether somebody accepts connections at `HOST:PORT`."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def is_raw(terminal: int) -> bool:
    """Whether the command has taken the terminal over: what is typed before is not its own yet."""
    return not termios.tcgetattr(terminal)[3] & termios.ICANON
