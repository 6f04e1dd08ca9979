"""A namespace plays the internet: an apt repository, a name server and an HTTP proxy behind a link of MTU 1400.

The engine lives in a namespace of its own, which is the host. Containers install a package through NAT, and with no
way out but the proxy, through that; MTU and proxies come from where they are configured.
"""

import hashlib
import http.server
import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.e2e.harness import BIN, WHERRYD, EngineProcess, running, until, within

from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, add_route, add_veth, get_link, set_link
from wherry.network import sandbox

pytestmark = pytest.mark.root

T = TypeVar("T")
HOST, INTERNET, PROXY_PORT = "198.51.100.1", "198.51.100.2", 3128
MTU = 1400
NAME = "deb.example.test"
# what apt needs of a Debian system, taken from the one that the test runs on
_PROGRAMS = (
    *("/usr/bin/apt-get", "/usr/bin/apt-config", "/usr/bin/dpkg", "/usr/bin/dpkg-deb", "/usr/bin/dpkg-split"),
    *(
        "/usr/lib/apt/methods/http",
        "/usr/lib/apt/methods/gpgv",
        "/usr/lib/apt/methods/store",
        "/usr/lib/apt/methods/copy",
    ),
    *("/usr/lib/apt/methods/file", "/usr/lib/apt/apt-helper", "/bin/sh", "/bin/tar", "/bin/rm", "/bin/cat", "/bin/ls"),
)
_DPKG_CALLS = ("ldconfig", "start-stop-daemon", "diff")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """The repository's web server, and the proxy: an absolute target is fetched for the client."""

    directory_served = ""
    proxied: list[str]

    def __init__(self, *args: object) -> None:
        super().__init__(*args, directory=self.directory_served)  # type: ignore[arg-type]

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve a file; as a proxy, whatever the name, from the same directory."""
        if self.path.startswith("http://"):
            self.proxied.append(self.path)
            self.path = "/" + self.path.split("/", 3)[3]
        super().do_GET()


def _answer(query: bytes) -> bytes:
    """An answer of the internet's name server: one name has one address (RFC 1035)."""
    end = query.index(b"\0", 12) + 5
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    known = ".".join(labels).lower() == NAME
    has = known and query[end - 4 : end - 2] == b"\0\x01"
    head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\x01" + (b"\0\x01" if has else b"\0\0") + bytes(4)
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(INTERNET)
    return head + query[12:end] + (record if has else b"")


class World:
    """The host's namespace, the internet's, and the servers there."""

    def __init__(self, base: Path) -> None:
        self.host = sandbox.create_namespace()
        self.internet = sandbox.create_namespace()
        netns.inside(self.host, self._wire)
        netns.inside(self.internet, self._plug)
        self.proxied: list[str] = []
        repository = base / "repository"
        _make_repository(repository)
        handler = type("Handler", (_Quiet,), {"directory_served": str(repository), "proxied": self.proxied})
        self._servers: list[socketserver.BaseServer] = []
        for port in (80, PROXY_PORT):
            self._serve(lambda port=port: http.server.ThreadingHTTPServer((INTERNET, port), handler))  # type: ignore[misc]
        self._serve(lambda: socketserver.ThreadingUDPServer((INTERNET, 53), _Names))

    def _wire(self) -> None:
        with Netlink() as netlink:
            there = self.internet
            netlink.run(
                [add_veth("up0", master=0, peer="net0", peer_netns=there, peer_mac="02:00:00:00:00:01", mtu=MTU)]
            )
            index = get_link(netlink, "up0").index
            netlink.run([add_address(index, f"{HOST}/24"), set_link(index, up=True)])
            netlink.run([add_route(index, gateway=INTERNET)])

    def _plug(self) -> None:
        with Netlink() as netlink:
            index = get_link(netlink, "net0").index
            netlink.run([add_address(index, f"{INTERNET}/24"), set_link(index, up=True)])

    def _serve(self, make: Callable[[], socketserver.BaseServer]) -> None:
        server = netns.inside(self.internet, make)
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End the servers and let the namespaces die."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        os.close(self.host)
        os.close(self.internet)


class _Names(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(_answer(self.rfile.read()))


def _make_repository(place: Path) -> None:
    """A flat repository with one package, larger than a packet."""
    package = place / "build"
    (package / "DEBIAN").mkdir(parents=True)
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True).stdout.decode()
    fields = f"Package: hello-far\nVersion: 1.0\nArchitecture: {architecture.strip()}\nMaintainer: T <t@example.test>\n"
    (package / "DEBIAN" / "control").write_text(f"{fields}Description: far\n")
    (package / "usr/share/hello-far").mkdir(parents=True)
    (package / "usr/share/hello-far/noise").write_bytes(os.urandom(200_000))
    subprocess.run(["dpkg-deb", "-Znone", "-b", package, place / "hello-far.deb"], check=True, capture_output=True)
    shutil.rmtree(package)
    deb = (place / "hello-far.deb").read_bytes()
    digest = hashlib.sha256(deb).hexdigest()
    entry = f"{fields}Filename: ./hello-far.deb\nSize: {len(deb)}\nSHA256: {digest}\nDescription: far\n"
    (place / "Packages").write_text(entry)


def _make_image(engine: EngineProcess, base: Path) -> None:
    """An image with this machine's apt and what it needs."""
    root = base / "root"
    wanted: set[str] = set()
    for program in _PROGRAMS:
        if not os.path.exists(program):
            continue
        wanted.add(program)
        told = subprocess.run(["ldd", program], check=False, capture_output=True).stdout.decode()
        wanted |= {word for line in told.splitlines() for word in line.split() if word.startswith("/")}
    wanted |= {str(path) for path in Path("/usr/lib").glob("*-linux-gnu*/libnss_*")}
    wanted |= {str(path) for path in Path("/usr/lib/apt/solvers").glob("*")}
    for path in wanted:
        target = root / os.path.realpath(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(os.path.realpath(path), target)
        link = root / path.lstrip("/")
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.realpath(path))
    for name in _DPKG_CALLS:
        stub = root / "usr/sbin" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text("#!/bin/sh\nexit 0\n")
        stub.chmod(0o755)
    for directory in (
        *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "etc/apt/sources.list.d"),
        *("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/lib/apt/lists/partial"),
        *("var/cache/apt/archives/partial", "var/log/apt", "tmp", "etc/dpkg/dpkg.cfg.d", "usr/share/dpkg"),
    ):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for table in Path("/usr/share/dpkg").glob("*table"):
        shutil.copy(table, root / "usr/share/dpkg")
    (root / "var/lib/dpkg/status").write_text("")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\npasswd: files\n")
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] http://{NAME}/ ./\n")
    (root / "etc/apt/apt.conf.d/test").write_text(
        'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "0"; Acquire::http::Timeout "20";\n'
    )
    archive = base / "apt.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    engine.docker("import", str(archive), "apt")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The internet."""
    made = World(tmp_path_factory.mktemp("internet"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def engine(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The engine on the host, with an image that has apt."""
    with running(EngineProcess(program=within(world.host, WHERRYD)), busybox=False) as engine:
        _make_image(engine, tmp_path_factory.mktemp("image"))
        yield engine


INSTALL = "apt-get -q update && apt-get -qy install hello-far && ls -l /usr/share/hello-far/noise"


@pytest.mark.parametrize("network", ["bridge", "users"])
def test_install_through_nat(engine: EngineProcess, network: str) -> None:
    """A container finds the repository by its name, and installs from it; its MTU is the uplink's."""
    if network == "users":
        engine.docker("network", "create", network)
    run = ("run", "--rm", "--network", network, "--dns", INTERNET, "apt", "sh", "-c")
    out = engine.docker(*run, f"cat /sys/class/net/eth0/mtu; {INSTALL}").out
    assert out.startswith(f"{MTU}\n")
    assert "200000" in out.splitlines()[-1]


def _ip(world: World, *words: str) -> None:
    subprocess.run(within(world.host, "ip", *words), check=True)


def test_the_mtu_follows_the_uplink(world: World, engine: EngineProcess) -> None:
    """A start after a change has the new MTU, on the default network and a user's; what was asked for stays."""
    chosen = "com.docker.network.driver.mtu"
    engine.docker("network", "create", "follows")
    engine.docker("network", "create", "-o", f"{chosen}=1234", "stays")

    def mtu(network: str) -> int:
        run = ("run", "--rm", "--network", network, "apt", "cat", "/sys/class/net/eth0/mtu")
        return int(engine.docker(*run).out)

    def follows(wanted: int) -> None:
        until(lambda: mtu("bridge") == wanted, f"containers have MTU {wanted}")
        assert (mtu("follows"), mtu("stays")) == (wanted, 1234)
        shown = engine.docker("network", "inspect", "-f", f'{{{{index .Options "{chosen}"}}}}', "bridge").out
        assert int(shown) == wanted

    follows(MTU)
    try:
        _ip(world, "link", "set", "up0", "mtu", "1300")
        follows(1300)
        _ip(world, "link", "add", "up1", "mtu", "1340", "type", "veth", "peer", "name", "far1", "mtu", "1340")
        _ip(world, "addr", "add", "203.0.113.1/24", "dev", "up1")
        _ip(world, "link", "set", "up1", "up")
        _ip(world, "link", "set", "far1", "up")
        _ip(world, "route", "replace", "default", "via", "203.0.113.2", "dev", "up1")
        follows(1340)
        _ip(world, "route", "replace", "default", "via", "203.0.113.2", "dev", "up1", "mtu", "1290")
        follows(1290)
        _ip(world, "link", "del", "up1")
        follows(1500)
    finally:
        _ip(world, "link", "set", "up0", "mtu", str(MTU))
        _ip(world, "route", "replace", "default", "via", INTERNET, "dev", "up0")
    follows(MTU)
    engine.docker("network", "rm", "follows", "stays")


def test_install_through_the_proxy(world: World, engine: EngineProcess, tmp_path: Path) -> None:
    """Without names, and by the proxy of config.json alone, the same works; the image knows nothing of it."""
    proxy = f"http://{INTERNET}:{PROXY_PORT}"
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": proxy}}}))
    for command in ("docker", str(BIN / "wherry")):
        world.proxied.clear()
        run = (command, "run", "--name", "app", "--dns", "198.51.100.99", "apt", "sh", "-c", INSTALL)
        done = engine.run(*run, env={"DOCKER_CONFIG": str(tmp_path)})
        assert "200000" in done.out.splitlines()[-1]
        assert f"http://{NAME}/./hello-far.deb" in [
            path.replace(f"{NAME}/hello", f"{NAME}/./hello") for path in world.proxied
        ]
        engine.docker("rm", "app")
    assert proxy not in engine.docker("image", "inspect", "apt").out
    assert proxy not in engine.docker("history", "--no-trunc", "apt").out
