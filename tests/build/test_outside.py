"""Where builds may go: not to the engine's machine, its link or a cloud's metadata; and what git may do on the way."""

import asyncio
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.build.conftest import Context
from tests.build.test_hostile import _git
from tests.build.test_wherry import build
from wherry.builder.contexts import checkout
from wherry.builder.contexts.relay import Relay
from wherry.builder.graph.remotes import git_source
from wherry.distribution.reach import Reach
from wherry.errors import Unavailable

pytestmark = pytest.mark.root


class _Server(http.server.SimpleHTTPRequestHandler):
    """Files of a directory, or a redirect; it remembers what it was asked."""

    asked: list[tuple[str, dict[str, str]]]
    redirect = ""

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append((self.path, dict(self.headers)))
        if self.redirect:
            self.send_response(302)
            self.send_header("Location", self.redirect + self.path)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Served:
    """A server: its port, and what it was asked."""

    def __init__(self, port: int, asked: list[tuple[str, dict[str, str]]]) -> None:
        self.port = port
        self.asked = asked

    @property
    def credentials(self) -> list[str]:
        """Every credential that it was sent."""
        return [headers["Authorization"] for _, headers in self.asked if "Authorization" in headers]


@contextmanager
def serving(directory: Path, redirect: str = "") -> Iterator[Served]:
    """A server on 127.0.0.1."""
    asked: list[tuple[str, dict[str, str]]] = []
    kind = type("Handler", (_Server,), {"asked": asked, "redirect": redirect})

    def handler(*args: Any) -> http.server.BaseHTTPRequestHandler:
        made: http.server.BaseHTTPRequestHandler = kind(*args, directory=str(directory))
        return made

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Served(server.server_port, asked)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """A directory to be served, with the repository `r.git`."""
    source, top = tmp_path / "source", tmp_path / "served"
    source.mkdir()
    top.mkdir()
    (source / "file").write_text("content")
    _git(source, "init", "-q", "-b", "main")
    _git(source, "add", "-A")
    _git(source, "commit", "-qm", "x")
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(top / "r.git")], check=True, capture_output=True)
    _git(top / "r.git", "update-server-info")
    return top


CLOSED = ("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]")


def test_a_build_does_not_reach_the_engines_machine(other: Context, repositories: Path) -> None:
    """`ADD` of a file and of a repository, by every way to write this machine; nothing is asked of its servers."""
    with serving(repositories) as server:
        for host in CLOSED:
            done = build(other, f"FROM scratch\nADD http://{host}:{server.port}/file /\n", code=1)
            # some ways to write it are no address to begin with
            assert "a build may not reach it" in done.err or "not a canonical IPv4" in done.err, (host, done)
        for address in (f"http://127.0.0.1:{server.port}/r.git", f"git://localhost:{server.port}/r.git"):
            done = build(other, f"FROM scratch\nADD {address} /\n", code=1)
            assert "a build may not reach it" in done.err, done
        remote = other.engine.wherry("build", f"http://127.0.0.1:{server.port}/r.git", check=False)
        assert remote.code == 1
        assert server.asked == []


def test_what_the_owner_allows_is_reached(context: Context, repositories: Path) -> None:
    """The control: the same with `builder.allowed-hosts`; files of a checkout are root's."""
    with serving(repositories) as server:
        address = f"http://127.0.0.1:{server.port}"
        files = f"ADD {address}/r.git /r\nADD {address}/r.git/HEAD /h\n"
        text = f"FROM busybox\n{files}RUN cat /r/file /h; stat -c owner-%u /r/file\n"
        done = build(context, text, "--no-cache")
        assert "content" in done.err and "refs/heads/main" in done.err and "owner-0" in done.err
        assert server.asked


def test_a_redirect_is_judged_too(context: Context, repositories: Path) -> None:
    """Metadata services of clouds, from a server that may be reached."""
    for target in (
        "http://169.254.169.254",
        "http://100.100.100.200",
        "http://[fd00:ec2::254]",
        "http://168.63.129.16",
    ):
        with serving(repositories, target) as server:
            address = f"http://127.0.0.1:{server.port}"
            done = build(context, f"FROM scratch\nADD {address}/file /\n", code=1)
            assert "leads to" in done.err or "a build may not reach it" in done.err, done
            done = build(context, f"FROM scratch\nADD {address}/r.git /\n", code=1)
            assert "a build may not reach it" in done.err, done


def test_a_credential_stays_with_its_origin(repositories: Path, tmp_path: Path) -> None:
    """A server that redirects, and a submodule of another host: neither leads the token elsewhere."""

    def fetch(server: Served, address: str) -> None:
        op = git_source(f"https://127.0.0.1:{server.port}/r.git")
        settings = checkout._settings(op, {"GIT_AUTH_TOKEN": b"secret-token"})
        # the servers of this test have no certificates, and it runs outside the box
        plain = [(key.replace("https://", "http://"), value) for key, value in settings if key != "http.proxy"]
        words = [word for key, value in plain for word in ("-c", f"{key}={value}")]
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null"}
        argv = ["git", *words, "ls-remote", address]
        subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, check=False)

    with serving(repositories) as other, serving(repositories, f"http://127.0.0.1:{other.port}") as redirecting:
        fetch(redirecting, f"http://127.0.0.1:{redirecting.port}/r.git")
        assert redirecting.credentials and other.asked == []
        fetch(redirecting, f"http://127.0.0.1:{other.port}/r.git")
        assert other.asked and other.credentials == []
        fetch(other, f"http://localhost:{other.port}/r.git")
        assert other.credentials == []
        fetch(other, f"http://127.0.0.1:{other.port}/r.git")
        assert other.credentials, "the control: its own origin gets it"


def _boxed(place: Path, script: str, reach: Reach) -> tuple[str, list[str]]:
    """Run a shell where git runs."""

    async def run() -> tuple[str, list[str]]:
        async with Relay(reach, "http") as relay:
            git = checkout._Git("/bin/sh", str(place), lambda _stream, _data: None, relay, (), "", [])
            return (await git("-c", script)).decode(), relay.refusals

    return asyncio.run(run())


def test_git_is_confined(tmp_path: Path) -> None:
    """No capability, a user of its own, no file of the host but programs, no network but the relay, no process."""
    (tmp_path / "canary").write_text("host-canary")
    place = tmp_path / "work"
    place.mkdir()
    shown, _ = _boxed(
        place,
        f"id -u; id -G; ls /; ls /etc; cat {tmp_path}/canary 2>&1; touch /usr/x /etc/x /x 2>&1; touch made; ls /proc;"
        "cat /etc/shadow 2>&1; kill -0 2 2>&1; mkdir m; mount -t tmpfs none m 2>&1; true",
        Reach(),
    )
    assert shown.startswith("2147358487\n2147358487\n"), shown
    assert "host-canary" not in shown and "root:" not in shown
    assert shown.count("Read-only file system") == 3, shown
    assert (place / "made").stat().st_uid == 2147358487
    assert "mount: " in shown
    listed = shown.splitlines()
    assert not {"root", "home", "var", "run", "proc", "sys"} & set(listed), shown


def test_the_relay_judges_every_connection(tmp_path: Path, repositories: Path) -> None:
    """From inside: loopback is the box's own, a name that leads to the host's is refused, an allowed one is reached."""
    place = tmp_path / "work"
    place.mkdir()
    with serving(repositories) as server:
        ask = f"printf 'GET /r.git/HEAD HTTP/1.0\\r\\n\\r\\n' | /connect 127.0.0.1 {server.port} 2>&1; true"
        shown, refusals = _boxed(place, ask, Reach())
        assert "refs/heads" not in shown and "127.0.0.1" in refusals[0]
        assert server.asked == []
        shown, refusals = _boxed(place, ask, Reach(["127.0.0.1"]))
        assert "refs/heads/main" in shown and refusals == []


def test_an_unknown_host_key_is_refused(context: Context) -> None:
    """git over ssh: the settings that reach it, and no way round them."""
    assert "StrictHostKeyChecking=yes" in checkout._SSH and "accept-new" not in checkout._SSH


def test_a_git_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It and what it started."""
    monkeypatch.setattr(checkout, "_SECONDS", 1.5)
    with pytest.raises(Unavailable, match="not done within"):
        _boxed(tmp_path, "sleep 1000 & sleep 1000", Reach())
