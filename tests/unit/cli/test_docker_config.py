"""Docker's config.json as `login` and `pull` use it."""

import json
import stat
from pathlib import Path

import pytest

from wherry.cli.credentials import HUB, Config, header, registry_of, server_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without anything."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path


def test_store_keeps_what_it_does_not_know(home: Path) -> None:
    """Unknown keys stay, the file is the user's alone, and logging out takes only that registry away."""
    path = home / ".docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"proxies": {"a": 1}, "auths": {"other": {"auth": "YTpi"}}}')
    path.chmod(0o644)
    assert Config().store("r:5000", "user", "pass:word", "")
    value = json.loads(path.read_text())
    assert value["proxies"] == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Config().get("r:5000") == {"username": "user", "password": "pass:word", "serveraddress": "r:5000"}
    assert list(header("r:5000/a/b")) == ["X-Registry-Auth"]
    assert header("busybox") == {}
    assert Config().erase("r:5000")
    assert not Config().erase("r:5000")
    assert list(json.loads(path.read_text())["auths"]) == ["other"]
    assert [file.name for file in path.parent.iterdir()] == ["config.json"]


def test_the_older_file_is_read(home: Path) -> None:
    """`.dockercfg` counts where config.json is absent."""
    (home / ".dockercfg").write_text(json.dumps({HUB: {"auth": "YTpi", "email": "x"}}))
    assert Config().get(HUB)["password"] == "b"
    assert list(header("busybox")) == ["X-Registry-Auth"]


def test_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential helper is asked, and told; the file has no secret then."""
    tools = home / "bin"
    tools.mkdir()
    helper = tools / "docker-credential-test"
    helper.write_text(
        f"""#!/bin/sh
case $1 in
get) read server; [ "$server" = r:5000 ] && echo '{{"Username":"<token>","Secret":"t0k"}}' && exit 0
     echo "credentials not found in native keychain"; exit 1;;
store) cat > {home}/stored;;
esac
"""
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text('{"credHelpers": {"r:5000": "test", "s": "test"}}')
    assert Config().get("r:5000")["identitytoken"] == "t0k"
    assert Config().get("s") == {}
    assert not Config().store("s", "u", "h1dden", "")
    assert json.loads((home / "stored").read_text())["Secret"] == "h1dden"
    assert "h1dden" not in (home / ".docker" / "config.json").read_text()


def test_names_of_registries() -> None:
    """Which key of the file a name is at."""
    assert registry_of("busybox") == registry_of("user/app") == registry_of("docker.io/x") == server_of("") == HUB
    assert registry_of("localhost/x") == "localhost"
    assert server_of("https://r.example:5000/v1/") == "r.example:5000"
