"""`make run`: the product at work on real input, from nothing.

Prints each command before its output, and leaves nothing running.
"""

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BIN = HERE / ".venv" / "bin"
STATE = HERE / ".wherry-run"


class Tour:
    """One engine with roots of its own, and the commands a person would type against it."""

    def __init__(self) -> None:
        self.run_root = Path(tempfile.mkdtemp(prefix="wherry-tour-"))
        self.socket = self.run_root / "wherry.sock"
        self.env = {**os.environ, "WHERRY_HOST": f"unix://{self.socket}"}
        self.engine: subprocess.Popen[bytes] | None = None

    def start_engine(self) -> None:
        """Execute wherryd and wait for its socket."""
        STATE.mkdir(exist_ok=True)
        with open(STATE / "wherryd.log", "ab") as log:
            self.engine = subprocess.Popen(
                [
                    str(BIN / "wherryd"),
                    *("--data-root", str(STATE / "data")),
                    *("--exec-root", str(self.run_root)),
                    "--live-restore=false",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            if self.engine.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"wherryd did not start, see {STATE / 'wherryd.log'}")
            select.select([], [], [], 0.02)

    def close(self) -> None:
        """End the engine and its containers."""
        if self.engine is not None:
            self.engine.terminate()
            self.engine.wait(30)
        shutil.rmtree(self.run_root, ignore_errors=True)

    def sh(self, *argv: str, code: int = 0, stdin: bytes | None = None) -> str:
        """Run `wherry …`, show it, and insist on its exit code."""
        print(f"\n$ wherry {' '.join(quote(word) for word in argv)}", flush=True)
        done = subprocess.run(
            [str(BIN / "wherry"), *argv],
            env=self.env,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        if done.returncode != code:
            raise SystemExit(f"exit code {done.returncode}, expected {code}")
        if code:
            print(f"(exit code {code}, as it should be)")
        return text.strip()

    def quietly(self, *argv: str) -> str:
        """Run `wherry …` without showing it; returns what it printed."""
        done = subprocess.run([str(BIN / "wherry"), *argv], env=self.env, capture_output=True, check=False)
        return done.stdout.decode().strip()

    def clear(self) -> None:
        """Remove containers that an interrupted tour left."""
        left = self.quietly("ps", "-aq").split()
        if left:
            self.quietly("rm", "-f", *left)

    def bootstrap(self, image: str) -> None:
        """Make a base image, unless an earlier tour has."""
        if self.quietly("images", "-q", image):
            print(f"\n{image} is here from an earlier run (wherry image bootstrap {image} made it)")
        else:
            self.sh("image", "bootstrap", image)

    def terminal(self, *argv: str, keys: list[tuple[str, bytes]], code: int) -> None:
        """Run `wherry …` in a pseudo terminal: wait for each text, then type."""
        print(f"\n$ wherry {' '.join(quote(word) for word in argv)}      # in a pseudo terminal", flush=True)
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


def quote(word: str) -> str:
    """Quote a word as a person would."""
    return f"'{word}'" if not word or any(c in word for c in ' ;|&$*{}"') else word


def is_raw(terminal: int) -> bool:
    """Whether the command has taken the terminal over: what is typed before is not its own yet."""
    return not termios.tcgetattr(terminal)[3] & termios.ICANON


def say(text: str) -> None:
    """A headline."""
    print(f"\n--- {text}", flush=True)


def show(tour: Tour) -> None:
    """The user's notes at work."""
    say("the engine, and two images made from this machine's own Debian packages")
    tour.sh("version")
    tour.bootstrap("busybox")
    tour.bootstrap("debian:bookworm")
    tour.sh("images")

    say("run = create + start; the program's end is the container's")
    tour.sh("run", "debian:bookworm", "echo", "hello")
    tour.sh("run", "--rm", "busybox", "sh", "-c", "exit 3", code=3)
    tour.terminal("run", "-it", "--rm", "busybox", "sh", keys=[("# ", b"hostname; tty\n"), ("# ", b"exit 3\n")], code=3)
    tour.sh("create", "--name", "made", "busybox", "echo", "created first, started later")
    tour.sh("start", "-a", "made")
    tour.sh("ps", "-a")

    say("a web server, its port published, answered over loopback")
    page = "mkdir -p /www; echo 'a page from a container' >/www/index.html; exec httpd -f -v -h /www -p 80"
    tour.sh("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", page)
    address = tour.sh("port", "web", "80/tcp").splitlines()[0]
    print(f"\n$ curl http://{address}/", flush=True)
    print(fetch(f"http://{address}/"), end="")
    tour.sh("ps")
    tour.sh("exec", "web", "sh", "-c", "echo inside $(hostname); ps")
    tour.sh("logs", "web")
    tour.sh("inspect", "--format", "{{.Name}} {{.State.Status}} {{.NetworkSettings.IPAddress}}", "web")

    say("attach: Ctrl-P Ctrl-Q leaves it running")
    tour.sh("run", "-dit", "--name", "shell", "busybox", "sh")
    tour.terminal("attach", "shell", keys=[("", b"echo attached\n"), ("attached\r\n", b"\x10\x11")], code=1)

    say("a running container is not removed without force; stop, then rm")
    tour.sh("rm", "web", code=1)
    tour.sh("stop", "-t", "1", "web", "shell")
    tour.sh("rm", "web", "shell", "made")

    say("images have names; an image goes with its last one")
    tour.sh("tag", "busybox", "mine/box:1")
    tour.sh("images")
    tour.sh("rmi", "mine/box:1")
    tour.sh("inspect", "--format", "{{.Id}} {{.RepoTags}}", "busybox")
    tour.sh("container", "prune", "-f")
    tour.sh("ps", "-a")


def fetch(url: str) -> str:
    """GET, again while the server inside is still starting."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            select.select([], [], [], 0.05)


def main() -> int:
    """Show the tour."""
    if os.geteuid() != 0:
        print("wherryd needs to be started with root privileges: make run as root", file=sys.stderr)
        return 1
    began = time.monotonic()
    tour = Tour()
    try:
        tour.start_engine()
        tour.clear()
        show(tour)
    finally:
        tour.close()
    took = time.monotonic() - began
    print(f"\nAll of this took {took:.0f} seconds. Nothing is left running; images are kept in {STATE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
