"""Paths, versions and the tables of handlers."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.api import absent, containers, images, networks, routing, streams, system, websocket
from wherry.api.version import CURRENT, parse_version
from wherry.errors import InvalidArgument


@pytest.mark.parametrize(
    ("method", "path", "handler", "name"),
    [
        ("GET", "/containers/json", containers.listing, ""),
        ("GET", "/containers/json/json", containers.inspect, "json"),
        ("DELETE", "/containers/a/b", containers.remove, "a/b"),
        ("POST", "/containers/x/attach", streams.attach, "x"),
        ("GET", "/containers/x/attach/ws", websocket.attach, "x"),
        ("GET", "/images/hub.c.163.com/public/ubuntu:14.04/json", images.inspect, "hub.c.163.com/public/ubuntu:14.04"),
        ("GET", "/images/get/get", images.save_one, "get"),
        ("GET", "/images/get", images.save_many, ""),
        ("DELETE", "/images/a/json", images.remove, "a/json"),
        ("HEAD", "/_ping", system.ping, ""),
        ("GET", "/networks/bridge", networks.inspect, "bridge"),
        ("GET", "/swarm", absent.swarm, ""),
        ("PATCH", "/secrets/x/y/z", absent.swarm, "x/y/z"),
        ("POST", "/swarm/leave", absent.swarm_leave, ""),
    ],
)
def test_handlers_are_found(method: str, path: str, handler: object, name: str) -> None:
    """The collection, the end of the path and the method decide."""
    assert routing.find(method, path) == (handler, name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/containers"),
        ("GET", "/containers/"),
        ("GET", "/containers/x"),
        ("POST", "/containers/x"),
        ("PUT", "/containers/x/json"),
        ("GET", "/exec/x"),
        ("GET", "/imagesx/json"),
        ("HEAD", "/version"),
        ("GET", "/v1.41/version"),
        ("get", "/version"),
    ],
)
def test_what_is_no_page(method: str, path: str) -> None:
    """Other methods and other paths have no handler."""
    assert routing.find(method, path) is None


def test_targets() -> None:
    """The query stays raw, the path is decoded once."""
    assert routing.split_target("/a%20b/c?x=%20") == ("/a b/c", "x=%20")
    assert routing.split_target("/a%252e") == ("/a%2e", "")
    assert routing.split_target("http://host:1/v1.41/info?a") == ("/v1.41/info", "a")
    assert routing.split_target("/a/b/") == ("/a/b/", "")
    assert routing.split_target("/.hidden") == ("/.hidden", "")
    for target in ("", "*", "host:443", "ftp://x/y", "/%", "/%4", "/%g0"):
        with pytest.raises(routing.BadPath):
            routing.split_target(target)


def outcome(target: str) -> tuple[str, str]:
    """Say what becomes of a target: `refused`, `moved` and where to, `taken` and its path."""
    try:
        path, _ = routing.split_target(target)
    except routing.BadPath:
        return "refused", ""
    except routing.Moved as moved:
        return "moved", moved.location
    return "taken", path


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from("/.%2efF0a?b\\"), max_size=30).map(lambda text: "/" + text))
def test_a_path_that_is_taken_is_clean(target: str) -> None:
    """Whatever is sent, a handler never sees dots or empty parts; a redirect leads to a clean path of this host."""
    what, path = outcome(target)
    if what == "moved":
        assert path.startswith("/")
        assert not path.startswith("//")
        what, path = outcome(path)
        assert what == "taken"
    if what == "taken":
        assert path.startswith("/")
        assert "//" not in path
        assert not {".", ".."} & set(path.split("/"))


@pytest.mark.parametrize(
    ("text", "version"), [("1.24", (1, 24)), ("1.51", CURRENT), ("1.45.1", (1, 45, 1)), ("01.030", (1, 30))]
)
def test_versions_that_are_spoken(text: str, version: tuple[int, ...]) -> None:
    """1.24 to 1.51, and what lies between."""
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.23", "too old"),
        ("1", "too old"),
        (".", "too old"),
        ("1.2.3.4", "too old"),
        ("1.52", "too new"),
        ("2", "too new"),
        ("1.51.1", "too new"),
        ("9" * 5000, "too new"),
        ("1." + "9" * 5000, "too new"),
    ],
)
def test_versions_that_are_not(text: str, words: str) -> None:
    """Older and newer ones are refused, however long."""
    with pytest.raises(InvalidArgument, match=words):
        parse_version(text)


def test_version_prefix() -> None:
    """Only digits and dots make a version."""
    assert routing.split_version("/v1.41/containers/json") == ("1.41", "/containers/json")
    for path in ("/version", "/v1.41", "/vx/info", "/v1.41x/info", "/volumes"):
        assert routing.split_version(path) == (None, path)
