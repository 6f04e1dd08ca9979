"""What `proxies` of Docker's config.json gives to containers and builds."""

import json
from pathlib import Path

import pytest

from wherry.cli import proxies

HOST = "unix:///run/wherry/wherry.sock"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a directory of the test's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def test_the_default_and_the_hosts_own(write: Path) -> None:
    """An engine's own section counts before the default one; both spellings are given."""
    default, own = {"httpProxy": "http://a:1", "noProxy": "x"}, {"httpsProxy": "http://b:2"}
    write.write_text(json.dumps({"proxies": {"default": default, HOST: own}}))
    assert proxies.variables("tcp://other:2375") == {
        "HTTP_PROXY": "http://a:1",
        "http_proxy": "http://a:1",
        "NO_PROXY": "x",
        "no_proxy": "x",
    }
    assert proxies.variables(HOST) == {"HTTPS_PROXY": "http://b:2", "https_proxy": "http://b:2"}


def test_what_is_given_stays(write: Path) -> None:
    """A variable on the command line is not replaced; its other spelling is still given."""
    write.write_text(json.dumps({"proxies": {"default": {"httpProxy": "http://a:1", "allProxy": ""}}}))
    assert proxies.variables(HOST, ["HTTP_PROXY=mine"]) == {"http_proxy": "http://a:1"}
    assert proxies.variables(HOST, ["HTTP_PROXY", "http_proxy="]) == {}


@pytest.mark.parametrize("value", [[], {}, {"default": 1}, {"default": {"httpProxy": 1}}])
def test_nothing_to_give(write: Path, value: object) -> None:
    """A file without proxies, or with what is none, gives nothing; so does no file."""
    assert proxies.variables(HOST) == {}
    write.write_text(json.dumps({"proxies": value}))
    assert proxies.variables(HOST) == {}
