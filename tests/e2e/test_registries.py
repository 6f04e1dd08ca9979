"""What an engine is told of registries, and what people log in with: real commands, engines and registries."""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import BIN, EngineProcess
from tests.images import image_archives as make
from tests.images.test_pull_peer import HTPASSWD, Peer

pytestmark = pytest.mark.root

SECRET = "s3cret"
HELPER = """#!/bin/sh
case $1 in
get) read server; [ -e "$STORE" ] && exec cat "$STORE"; echo "credentials not found in native keychain"; exit 1;;
store) cat > "$STORE";;
erase) rm -f "$STORE";;
esac
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A registry that wants a password."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "htpasswd").write_text(HTPASSWD + "\n")
    made = Peer(directory, auth={"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}})
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def open_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A registry that anybody may use."""
    made = Peer(tmp_path_factory.mktemp("open"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without anything."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path


def log_in(engine: EngineProcess, host: str, password: str = SECRET, code: int = 0) -> str:
    """Log in; returns what was said on both streams."""
    done = engine.wherry("login", "-u", "user", "--password-stdin", host, stdin=password.encode(), code=code)
    return done.out + done.err


def test_login_keeps_the_file(engine: EngineProcess, guarded: Peer, home: Path) -> None:
    """config.json is 0600 and keeps what it had; plain text is said to be such; no log has the password; logout."""
    path = home / ".docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"detachKeys": "ctrl-x", "auths": {"other.example": {"auth": "YTpi"}}}')
    assert "401 Unauthorized" in log_in(engine, guarded.name, "wrong", 1)
    said = log_in(engine, guarded.name)
    assert "Login Succeeded" in said
    assert "unencrypted" in said
    value = json.loads(path.read_text())
    assert value["detachKeys"] == "ctrl-x"
    assert sorted(value["auths"]) == [guarded.name, "other.example"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    image = f"{guarded.name}/kept:1"
    engine.wherry("tag", "busybox", image)
    engine.wherry("push", "-q", image)
    engine.wherry("rmi", image)
    assert engine.wherry("pull", "-q", image).out == f"{image}\n"
    engine.wherry("rmi", image)
    engine.wherry("logout", guarded.name)
    assert list(json.loads(path.read_text())["auths"]) == ["other.example"]
    assert engine.wherry("pull", "-q", image, check=False).code == 1
    assert SECRET not in engine.log.read_text()
    assert "dXNlcjpzM2NyZXQ" not in engine.log.read_text()


def test_dockercfg(engine: EngineProcess, guarded: Peer, home: Path) -> None:
    """Where config.json is absent .dockercfg is read; login writes config.json and leaves the older file."""
    image = f"{guarded.name}/older:1"
    old = json.dumps({guarded.name: {"auth": "dXNlcjpzM2NyZXQ=", "email": "a@b"}})
    (home / ".dockercfg").write_text(old)
    engine.wherry("tag", "busybox", image)
    engine.wherry("push", "-q", image)
    log_in(engine, guarded.name)
    assert (home / ".dockercfg").read_text() == old
    assert guarded.name in json.loads((home / ".docker" / "config.json").read_text())["auths"]
    engine.wherry("rmi", image)


def test_credential_helpers(engine: EngineProcess, guarded: Peer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is the helper's: it is stored, found and erased through it, and config.json never has it."""
    helper = home / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STORE", str(home / "stored"))
    path = home / ".docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"credsStore": "test"}')
    image = f"{guarded.name}/helped:1"
    engine.wherry("tag", "busybox", image)
    assert engine.wherry("push", "-q", image, check=False).code == 1
    assert "unencrypted" not in log_in(engine, guarded.name)
    assert json.loads((home / "stored").read_text())["Secret"] == SECRET
    assert SECRET not in path.read_text()
    assert "dXNlcjpzM2NyZXQ" not in path.read_text()
    engine.wherry("push", "-q", image)
    engine.docker("push", "-q", image)
    engine.wherry("logout", guarded.name)
    assert not (home / "stored").exists()
    engine.wherry("rmi", image)


def test_mirrors_of_any_registry(engine: EngineProcess, open_one: Peer, guarded: Peer) -> None:
    """`--registry-mirror HOST=URL` serves that registry and daemon.json another; where a mirror has not what is
    asked for, the registry itself is; `info` shows them."""
    image = f"{open_one.name}/team/app:1"
    engine.wherry("tag", "busybox", image)
    engine.wherry("push", "-q", image)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"
    config = engine.base / "daemon.json"
    registries = {"other.example": {"mirrors": [f"http://{dead}", f"http://{open_one.name}"]}}
    config.write_text(json.dumps({"registries": registries, "insecure-registries": ["10.9.8.0/24"]}))
    own = EngineProcess(
        *("--config-file", str(config), "--registry-mirror", f"far.example:5000=http://{open_one.name}"),
        *("--registry-mirror", f"{open_one.name}=http://{dead}", "--registry-mirror", "https://hub-mirror.example"),
    )
    try:
        own.start()
        for name in ("far.example:5000/team/app:1", "other.example/team/app:1", image):
            assert own.wherry("pull", "-q", name).out == f"{name}\n"
        assert len(set(own.wherry("images", "-q").out.split())) == 1
        failed = own.wherry("pull", "far.example:5000/team/app:2", check=False)
        assert failed.code == 1
        assert "far.example" in failed.err
        info = json.loads(own.wherry("info", "-f", "{{json .RegistryConfig}}").out)
        assert info["Mirrors"] == ["https://hub-mirror.example/"]
        assert "10.9.8.0/24" in info["InsecureRegistryCIDRs"]
    finally:
        own.destroy()
        engine.wherry("rmi", image)
    own.assert_clean()


# -- search


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        results = [
            {"name": f"box{number}", "description": "d" * 60, "star_count": 10 - number, "is_official": not number}
            for number in range(int(dict(p.split("=") for p in self.path.partition("?")[2].split("&"))["n"]))
        ]
        body = json.dumps({"results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return


@pytest.fixture
def hub() -> Iterator[str]:
    """An index of Docker Hub's shape; its HOST:PORT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_search(engine: EngineProcess, hub: str, home: Path) -> None:
    """Both commands print the same for every flag; what fails, fails in the same words."""
    term = f"{hub}/box"
    wherry = str(BIN / "wherry")
    lines = [
        ["--limit", "2", term],
        ["--limit", "3", "--no-trunc", term],
        ["--limit", "5", "--filter", "stars=8", term],
        ["--limit", "5", "-f", "is-official=true", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}", term],
        ["--limit", "2", "--format", "table {{.Name}}\t{{.Description}}", term],
        ["--limit", "2", "--format", "{{json .}}", term],
        ["--limit", "101", term],
        ["--limit", "-1", term],
        ["--filter", "nope=1", term],
        ["--filter", "stars=x", term],
        ["127.0.0.1:1/box"],
    ]
    version = engine.docker("version", "-f", "{{.Client.Version}}").out
    if int(version.partition(".")[0]) < 28:
        lines = [line for line in lines if "{{json .}}" not in line]  # an older command says it otherwise
    for line in lines:
        results = [engine.run(program, "search", *line, code=None) for program in (wherry, "docker")]
        assert (results[0].code, results[0].out) == (results[1].code, results[1].out), line
        assert results[0].err == results[1].err, line
    assert engine.wherry("search", "--limit", "2", "-f", "stars=10", "--format", "{{.Name}}", term).out == "box0\n"


def test_tags_are_listed(engine: EngineProcess, open_one: Peer, home: Path) -> None:
    """`search --list-tags` gives the tags of a repository, one a line."""
    names = [f"{open_one.name}/listed:{tag}" for tag in ("1", "2")]
    for name in names:
        engine.wherry("tag", "busybox", name)
        engine.wherry("push", "-q", name)
    assert sorted(engine.wherry("search", "--list-tags", f"{open_one.name}/listed").out.split()) == ["1", "2"]
    assert engine.wherry("search", "--list-tags", f"{open_one.name}/absent", check=False).code == 1
    engine.wherry("rmi", *names)


def test_push_tells_what_it_leaves_out(engine: EngineProcess, open_one: Peer, home: Path) -> None:
    """Of an index that is here for one platform that image goes, and the user is told; so is what `--platform` does."""
    here, other = "amd64", "s390x"
    layers = {name: make.tar({name: name.encode()}) for name in (here, other)}
    configs = {name: make.config([layers[name]], architecture=name) for name in layers}
    manifests = {name: make.manifest(configs[name], [layers[name]]) for name in layers}
    descriptors = [
        make.descriptor(raw, make.MANIFEST, platform={"os": "linux", "architecture": name})
        for name, raw in manifests.items()
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": make.INDEX, "manifests": descriptors}).encode()
    name = f"{open_one.name}/partly:1"
    blobs = [index, manifests[here], configs[here], layers[here]]
    engine.wherry("load", stdin=make.tar(make.layout([make.named(index, name, make.INDEX)], blobs)))
    out = engine.wherry("push", "-q", name).out
    assert out.splitlines() == [
        name,
        "",
        " Info -> Not all multiplatform-content is present and only the available single-platform image was pushed",
        f"         {make.sha(index)} -> {make.sha(manifests[here])}",
    ]
    failed = engine.wherry("push", "--platform", f"linux/{other}", name, check=False)
    assert failed.code == 1
    assert failed.out.startswith("\n Info -> Using --platform pushes only the specified platform manifest")
    assert failed.err == (
        f"image with reference {name} was found but does not provide the specified platform (linux/{other})\n"
    )
    assert "Invalid platform" in engine.wherry("push", "--platform", "a/b/c/d", name, check=False).err
    engine.wherry("rmi", name)
