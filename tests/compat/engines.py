"""The two engines that are compared: this project's, and a dockerd with the same busybox image."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.dockerd import dockerd
from tests.e2e.harness import BIN, EngineProcess
from tests.unix_http import UnixConnection

STANDING = {"c1": "running", "x1": "exited", "n1": "created", "p1": "paused"}
# containers that rows may look at and must not change: one for each state
_STANDING = """
docker run -d --name c1 -l a=b -l team=x -e FOO=bar -h box busybox \
    sh -c 'echo one; sleep 0.2; echo two >&2; exec sleep 9999'
docker run --name x1 -l a=c busybox sh -c 'echo bye; exit 3' || true
docker create --name n1 -p 80 -v /data:/data:ro busybox sleep 9999
docker run -d --name p1 busybox sleep 9999
docker pause p1
"""


class Engine:
    """One engine under comparison.

    Attributes:
        socket: path of its socket.
        directory: a scratch directory of its own; rows see it as `$DIR`.
        version: its version as numbers, `api` the newest API version it speaks.
        deaf: whether it refuses everything (`deaf.py`).
    """

    deaf = False

    def __init__(self, path: str, directory: Path) -> None:
        self.socket = path
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.image = ""
        told = json.loads(self.call("GET", "/version")[1])
        self.version = tuple(int(part) for part in told["Version"].split("+")[0].split(".")[:2])
        self.api = str(told["ApiVersion"])
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{path}", "DIR": str(directory), "TZ": "UTC", "FROMENV": "yes"}
        for name in ("DOCKER_CONTEXT", "DOCKER_API_VERSION"):
            self.env.pop(name, None)
        self.env["DOCKER_CONFIG"] = str(directory)

    def call(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """Make a raw request; returns status, body and content type."""
        connection = UnixConnection(self.socket, 20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Content-Type", "")
        finally:
            connection.close()

    def shell(self, line: str, seconds: float = 40) -> tuple[int, bytes, bytes]:
        """Run a line of bash against it; returns code, stdout and stderr. Code 124: it did not end."""
        process = subprocess.Popen(
            ["bash", "-c", line],
            env=self.env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return 124, out, err
        return process.returncode, out, err

    def containers(self) -> list[dict[str, Any]]:
        """All its containers, as the API lists them."""
        found: list[dict[str, Any]] = json.loads(self.call("GET", "/containers/json?all=1")[1])
        return found

    def prepare(self, archive: Path) -> None:
        """Load the image and make the standing containers."""
        self._must(f"docker load -q -i {archive}")
        self.image = json.loads(self.call("GET", "/images/busybox/json")[1])["Id"]
        self._stand()

    def _must(self, line: str) -> None:
        code, _, err = self.shell(line)
        if code:
            raise RuntimeError(f"{self.socket}: {line}: {err.decode()}")

    def _stand(self) -> None:
        for line in _STANDING.strip().splitlines():
            self._must(line)

    def tidy(self) -> None:
        """Remove what a row left behind; busybox gets its name back."""
        self.remove_volumes()
        if self.call("GET", "/images/busybox:latest/json")[0] == 404:
            self.call("POST", f"/images/{self.image}/tag?repo=busybox&tag=latest")
        standing: dict[str, str] = {}
        for container in self.containers():
            known = {name[1:] for name in container["Names"]} & set(STANDING)
            if known:
                standing[known.pop()] = container["State"]
            else:
                self.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        if standing != STANDING:
            # the row did to one of them what it was not to do
            self.clear()
            self._stand()
        self.remove_networks()
        for image in json.loads(self.call("GET", "/images/json")[1]):
            names = image["RepoTags"] or []
            for name in names:
                if name != "busybox:latest" and name != "<none>:<none>":
                    self.call("DELETE", f"/images/{name}")
            if not names or names == ["<none>:<none>"]:
                self.call("DELETE", f"/images/{image['Id']}?force=1")

    def remove_volumes(self) -> None:
        """Remove the volumes that a row made."""
        for volume in json.loads(self.call("GET", "/volumes")[1])["Volumes"] or []:
            self.call("DELETE", f"/volumes/{volume['Name']}")

    def remove_networks(self) -> None:
        """Remove the networks that a row made."""
        for network in json.loads(self.call("GET", "/networks")[1]):
            if network["Name"] not in ("bridge", "host", "none"):
                self.call("DELETE", f"/networks/{network['Id']}")

    def clear(self) -> None:
        """Remove every container, volume and network."""
        for container in self.containers():
            self.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        self.remove_volumes()
        self.remove_networks()


@contextlib.contextmanager
def bridged(base: Path) -> Iterator[str]:
    """Run a dockerd with a bridge of its own, all else of it below `base`; gives its socket."""
    bridge = f"wc{os.getpid()}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"10.209.{os.getpid() % 250}.1/24", "dev", bridge], check=True)
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
        with dockerd(base, f"--bridge={bridge}", "--iptables=false", "--ip-forward=false") as peer:
            yield peer.socket
    finally:
        subprocess.run(["ip", "link", "del", bridge], check=False)


@contextlib.contextmanager
def both(peer: str | None = None, ours: str | None = None) -> Iterator[tuple[Engine, Engine]]:
    """Give (dockerd, wherryd), both with busybox and the standing containers; what was started is ended.

    Args:
        peer: socket of a dockerd that already runs; by default one is started.
        ours: socket of a wherryd that already runs; by default one is started.
    """
    base = Path(tempfile.mkdtemp(prefix="wherry-compat-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        if ours is None:
            process = EngineProcess()
            stack.callback(process.destroy)
            process.start()
            ours = process.roots.socket
        if peer is None:
            (base / "d").mkdir()
            peer = stack.enter_context(bridged(base / "d"))
        wherryd = Engine(ours, base / "w-dir")
        # beside the peer's socket: a dockerd with a mount namespace of its own sees at least that directory
        theirs = Path(tempfile.mkdtemp(prefix="rows-", dir=Path(peer).parent))
        stack.callback(shutil.rmtree, theirs, ignore_errors=True)
        docker = Engine(peer, theirs)
        archive = base / "busybox.tar"
        code, _, err = wherryd.shell("docker image inspect busybox")
        if code:
            code, _, err = wherryd.shell(f"WHERRY_HOST=$DOCKER_HOST {BIN}/wherry image bootstrap busybox")
        if not code:
            code, _, err = wherryd.shell(f"docker save -o {archive} busybox")
        if code:
            raise RuntimeError(err.decode())
        for engine in (docker, wherryd):
            engine.clear()
            stack.callback(engine.clear)
            shutil.copy(archive, engine.directory / "busybox.tar")
            engine.prepare(archive)
            # both sides speak what the older one knows: the command's own behaviour depends on it
            engine.env["DOCKER_API_VERSION"] = min(docker.api, wherryd.api, key=lambda v: tuple(map(int, v.split("."))))
        yield docker, wherryd
