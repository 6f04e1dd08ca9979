"""Hostile builds (attacks 40, 41, 43, 45): mounts, privileges, repositories, contexts, downloads that want out."""

import http.server
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.build.conftest import CLASSIC, Context
from tests.build.test_wherry import build
from tests.e2e.harness import Done, EngineProcess

pytestmark = pytest.mark.root
CANARY = "host-canary-5b1e"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Give a directory of the host that builds try to read and to change; nothing of it may be changed."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text(CANARY)
    yield place
    assert sorted(os.listdir(place)) == ["secret"]
    assert (place / "secret").read_text() == CANARY


# -- 40: mounts of RUN


def test_a_bind_mount_source_that_is_a_link_stays_in_its_stage(context: Context, outside: Path) -> None:
    """CVE-2024-1753, CVE-2024-23652: an absolute link, one with `..`, a directory behind a link."""
    for link, source in ((outside, "/l"), (f"../../../../..{outside}", "/l"), (outside.parent, f"/l/{outside.name}")):
        done = context.docker(
            f"FROM busybox AS a\nRUN ln -s {link} /l\n"
            f"FROM busybox\nRUN --mount=from=a,source={source},target=/m,rw cat /m/secret; touch /m/new; true\n",
            code=None,
        )
        assert CANARY not in done.out + done.err


def test_a_cache_mount_source_that_is_a_link_stays_in_its_cache(context: Context, outside: Path) -> None:
    """CVE-2024-9675: a cache that an earlier build filled with links."""
    filled = f"FROM busybox\nRUN --mount=type=cache,id=evil,target=/c ln -sfn {outside} /c/l && ln -sfn / /c/root\n"
    context.docker(filled)
    for source in ("l", "/l", f"root{outside}", "../../../../../.."):
        done = context.docker(
            f"FROM busybox\nRUN --mount=type=cache,id=evil,target=/c,source={source} "
            "cat /c/secret /c/etc/hostname; touch /c/new; true\n",
            code=None,
        )
        assert CANARY not in done.out + done.err


def test_mount_points_behind_links_are_made_and_taken_away_inside(context: Context, outside: Path) -> None:
    """CVE-2024-23652: what is cleaned up after a step is never the host's."""
    context.docker(
        f"FROM busybox\nRUN ln -s {outside} /l && mkdir /real && ln -s /real /k\n"
        "RUN --mount=type=cache,id=points,target=/k/made touch /k/made/x\n"
        f"RUN --mount=type=tmpfs,target=/l/secret --mount=type=tmpfs,target=/l/dir true; true\n",
        code=None,
    )


def test_stages_that_swap_a_directory_for_a_link_win_no_race(context: Context, outside: Path) -> None:
    """CVE-2024-23651: one stage flips a path of a shared cache while others mount it."""
    victims = "".join(
        f"FROM busybox AS v{n}\nRUN --mount=type=cache,id=race,source=flip,target=/m "
        f"cat /m/secret; touch /m/pwn{n}; true\n"
        for n in range(3)
    )
    done = context.docker(
        "FROM busybox AS racer\nRUN --mount=type=cache,id=race,target=/c end=$(($(date +%s)+2)); "
        "while [ $(date +%s) -lt $end ]; do rm -rf /c/flip; mkdir -p /c/flip; rm -rf /c/flip; "
        f"ln -s {outside} /c/flip; done\n"
        f"{victims}FROM busybox\nCOPY --from=racer /etc /r\n"
        + "".join(f"COPY --from=v{n} /etc /v{n}\n" for n in range(3)),
        "--no-cache",
        code=None,
    )
    assert CANARY not in done.out + done.err


def test_copies_into_links_stay_in_the_root(context: Context, outside: Path) -> None:
    """CVE-2024-9407 and its kin: a destination, a WORKDIR and an archive's directory that are links to the host."""
    context.write("f", "mine")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("l/unpacked"), io.BytesIO())
    context.write("a.tar", archive.getvalue())
    context.docker(
        f"FROM busybox\nRUN ln -s {outside} /l && ln -s {outside}/made /n && ln -s ../../../..{outside} /r\n"
        "COPY f /l/copied\nCOPY f /l/secret\nCOPY f /r/up\nADD a.tar /\nWORKDIR /l/work\nCOPY f /n\n"
        f"RUN cat {outside}/secret > /seen\n",
        "-t",
        "links",
    )
    assert context.run("links", "cat", "/seen") == "mine"


# -- 41: privileges


@pytest.mark.parametrize("flag", ["--security=insecure", "--network=host"])
def test_a_dockerfile_gives_itself_no_privilege(context: Context, flag: str) -> None:
    """CVE-2024-23653: an entitlement is the caller's to give."""
    done = context.docker(f"FROM busybox\nRUN {flag} echo pwned\n", code=None)
    assert done.code != 0
    assert "is not allowed" in done.err
    assert "\npwned" not in done.out


def test_a_syntax_image_is_never_run(context: Context) -> None:
    """CVE-2026-33747: `# syntax=` names a program that would read the Dockerfile; none is fetched or run here."""
    context.docker('FROM busybox\nCMD ["echo", "pwned"]\n', "-t", "evil/frontend:1")
    done = context.docker("# syntax=evil/frontend:1\nFROM busybox\nRUN echo plain\n")
    assert "plain" in done.out
    assert "pwned" not in done.out
    context.docker("# syntax=no.such.host/x/y:z\nFROM busybox\nRUN echo plain\n")


# -- 43: repositories


@contextmanager
def serving(top: Path) -> Iterator[str]:
    """Serve the repositories below a directory; gives their address."""
    port = _free()
    argv = (
        "git",
        "daemon",
        "--reuseaddr",
        "--export-all",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--base-path={top}",
    )
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        _answers(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> None:
    import socket

    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _git(place: Path, *words: str) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *words], cwd=place, env=env, check=True, capture_output=True)


def commit_all(repository: Path, tag: str = "") -> None:
    """Commit what a directory holds to its branch `main`, and perhaps tag it."""
    if not (repository / ".git").exists():
        _git(repository, "init", "-q", "-b", "main")
    _git(repository, "add", "-A")
    _git(repository, "commit", "-qm", "x")
    if tag:
        _git(repository, "tag", tag)


def _remote(engine: EngineProcess, address: str, code: int | None = 0) -> Done:
    return engine.run("docker", "build", "-q", "-t", "remote", address, code=code, env=CLASSIC)


def test_a_repository_leads_nowhere(context: Context, outside: Path, tmp_path: Path) -> None:
    """CVE-2026-33748, CVE-2026-44517: subdirectories that are links, submodules of other protocols, hooks, `..`."""
    repository = tmp_path / "r"
    repository.mkdir()
    (repository / "Dockerfile").write_text("FROM busybox\nCOPY . /c\nRUN cat /c/l/secret /c/f; ls -a /c\n")
    (repository / "sub").mkdir()
    (repository / "sub/Dockerfile").write_text("FROM busybox\nRUN echo in-sub > /in\n")
    (repository / "l").symlink_to(outside)
    (repository / "f").symlink_to(outside / "secret")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c touch% {outside}/pwned\n')
    commit_all(repository)
    with serving(tmp_path) as address:
        assert _remote(context.engine, f"{address}/r#main:sub").code == 0
        assert context.run("remote", "cat", "/in") == "in-sub\n"
        for where in ("", "#main", "#main:l", "#main:f", "#main:sub/../l", "#main:..", "#main:.git", "#:/../../etc"):
            done = _remote(context.engine, f"{address}/r{where}", code=None)
            assert CANARY not in done.out + done.err
            assert where in ("", "#main") or done.code != 0


# -- 45: contexts, Dockerfiles and downloads


def _tar(*members: tuple[str, str, str]) -> bytes:
    """An archive of (name, kind, link or content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, text
                tar.addfile(info)
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, text
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def _send(context: Context, archive: bytes) -> str:
    """Build an archive as it is; what the engine says."""
    done = context.engine.run("docker", "build", "--no-cache", "-", code=None, env=CLASSIC, stdin=archive)
    return done.out + done.err


def test_a_dockerfile_that_is_a_link_reads_nothing_of_the_host(context: Context, outside: Path) -> None:
    """The Dockerfile, `.dockerignore` and a COPY's source as links out of the context."""
    secret = str(outside / "secret")
    for link in (secret, f"../../../../../../../..{secret}"):
        assert CANARY not in _send(context, _tar(("Dockerfile", "link", link)))
        plain = ("Dockerfile", "file", "FROM busybox\nCOPY l /l\nRUN cat /l\n")
        assert CANARY not in _send(context, _tar(plain, ("l", "link", link)))
        assert CANARY not in _send(context, _tar(plain, ("l", "file", "x"), (".dockerignore", "link", link)))
        below = ("Dockerfile", "file", "FROM busybox\nCOPY l/secret /l\nRUN cat /l\n")
        assert CANARY not in _send(context, _tar(below, ("l", "link", str(outside))))


def test_a_context_that_wants_out_is_refused(context: Context, outside: Path) -> None:
    """Names with `..`, links that later names go through, hard links to what is not there."""
    plain = ("Dockerfile", "file", "FROM busybox\nRUN echo built\n")
    for members in (
        [("../../../escaped", "file", "x")],
        [(f"..{outside}/new", "file", "x")],
        [("l", "link", str(outside)), ("l/new", "file", "x")],
        [("h", "hard", str(outside / "secret"))],
        [("h", "hard", "../../../../etc/passwd")],
    ):
        said = _send(context, _tar(plain, *members))
        assert CANARY not in said
    assert not Path("/escaped").exists()


def test_add_takes_an_archive_apart_inside(context: Context, outside: Path) -> None:
    """What ADD unpacks stays below its destination, whatever links are in the archive or in the root."""
    context.write(
        "a.tar", _tar(("l", "link", str(outside)), ("l/new", "file", "x"), ("k", "link", "/"), ("k/n", "file", "x"))
    )
    context.write("b.tar", _tar(("../../../../../../escaped", "file", "x")))
    context.docker("FROM busybox\nADD a.tar /d/\n", code=None)
    context.docker("FROM busybox\nADD b.tar /d/\n", code=None)
    assert not Path("/escaped").exists()


class _Redirects(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Send everybody somewhere else."""
        self.send_response(302)
        self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_a_download_is_not_sent_to_the_machines_own_services(context: Context) -> None:
    """A server that redirects to a link-local address, where clouds keep credentials, is not followed."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Redirects) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/file"
            done = context.docker(f"FROM scratch\nADD {address} /\n", code=1)
            assert "leads to 169.254.169.254" in done.err
            done = build(context, "FROM scratch\n", "--build-context", f"x={address}", "--build-arg", "q=1", code=None)
        finally:
            server.shutdown()
            thread.join()
