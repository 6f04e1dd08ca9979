"""Images as JSON, errors as statuses, sockets by address."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from wherry import errors
from wherry.api.errors import STATUS, describe, error_body, in_band, status_of
from wherry.api.listen import open_listener, parse_place
from wherry.wire import images

RAW = (
    b'{"architecture":"amd64","os":"linux","created":"2026-11-24T08:20:12.751308442Z","comment":"Imported from -",'
    b'"docker_version":"26.1.5+dfsg1","config":{"Cmd":["sh"],"Labels":{"a":"b"}},'
    b'"rootfs":{"type":"layers","diff_ids":["sha256:417d"]},"history":[]}'
)


def image(raw: bytes = RAW, names: tuple[str, ...] = ("busybox:latest",), **keys: object) -> images.ImageFacts:
    facts: dict[str, object] = {
        "id": "sha256:45f1",
        "raw_config": raw,
        "names": names,
        "repo_digests": (),
        "layers": (),
    }
    facts |= {"size": 1982298, "parent": "", "named_at": 1795508412764338873, **keys}
    found: images.ImageFacts = SimpleNamespace(**facts)
    return found


def test_image_summary_as_dockerd_26_gave_it() -> None:
    """The keys of a list's line, now and in 1.41."""
    now = {
        "Containers": -1,
        "Created": 1795508412,
        "Id": "sha256:45f1",
        "Labels": {"a": "b"},
        "ParentId": "",
        "RepoDigests": [],
        "RepoTags": ["busybox:latest"],
        "SharedSize": -1,
        "Size": 1982298,
    }
    assert images.summary(image(), (1, 45)) == now
    assert images.summary(image(), (1, 41)) == {**now, "RepoDigests": None, "VirtualSize": 1982298}
    nameless = images.summary(image(names=()), (1, 41))
    assert (nameless["RepoTags"], nameless["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    assert images.summary(image(names=()), (1, 43))["RepoTags"] == []


def test_image_inspect_as_dockerd_26_gave_it() -> None:
    """The keys of inspect, in dockerd's order, and those that went with 1.44 and 1.45."""
    shown = images.inspect(image(layers=("/l/1", "/l/2", "/l/3")), (1, 45))
    assert list(shown) == [
        "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "ContainerConfig", "DockerVersion", "Author",
        "Config",
        "Architecture", "Os", "Size", "GraphDriver", "RootFS", "Metadata",
    ]  # fmt: skip
    assert list(shown["Config"]) == [
        "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin",
        "StdinOnce", "Env", "Cmd", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels",
    ]  # fmt: skip
    assert shown["Metadata"] == {"LastTagTime": "2026-11-24T08:20:12.764338873Z"}
    assert shown["Created"] == "2026-11-24T08:20:12.751308442Z"
    data = {"LowerDir": "/l/2:/l/1", "MergedDir": "/l/merged", "UpperDir": "/l/3", "WorkDir": "/l/work"}
    assert shown["GraphDriver"] == {"Data": data, "Name": "overlay2"}
    old = images.inspect(image(), (1, 41))
    assert set(old) - set(shown) == {"Container", "VirtualSize"}
    assert old["ContainerConfig"] == shown["ContainerConfig"] == shown["Config"]


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"config":null,"rootfs":null,"created":null}', b'{"created":"soon","config":{"X":1}}']
)
def test_images_that_say_little(raw: bytes) -> None:
    """A config without the optional keys can be shown."""
    for version in ((1, 24), (1, 51)):
        assert images.summary(image(raw), version)["Created"] == 0
        assert images.inspect(image(raw, named_at=0), version)["Metadata"]["LastTagTime"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2020-01-02T03:04:05Z", 1577934245),
        ("2020-01-02T05:04:05+02:00", 1577934245),
        ("2020-01-01T21:34:05.123456789-05:30", 1577934245),
        ("2020-01-02T03:04:05.1234567891Z", 1577934245),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_the_creation_of_an_image_is_read_with_its_offset(created: str, shown: int) -> None:
    """A time that is written in another zone than UTC is the same moment in the list of images."""
    raw = b'{"created":"%s"}' % created.encode()
    assert images.summary(image(raw), (1, 45))["Created"] == shown


def test_every_error_class_has_a_status() -> None:
    """The table covers the tree, and a sub-class inherits."""
    for name in dir(errors):
        found = getattr(errors, name)
        if isinstance(found, type) and issubclass(found, errors.WherryError):
            assert any(cls in STATUS for cls in found.__mro__)
    assert status_of(errors.ContainerNotFound("x")) == 404
    assert status_of(errors.Paused("x")) == 409
    assert status_of(errors.AlreadyInState("x")) == 304
    assert status_of(ValueError()) == 500
    assert describe(errors.NotSupported("no"), "GET /") == (501, "no")


def test_error_bodies() -> None:
    """As dockerd writes them, in a body and in band."""
    assert error_body('a "b"') == b'{"message":"a \\"b\\""}\n'
    assert in_band("x") == b'{"errorDetail":{"message":"x"},"error":"x"}\n'


@pytest.fixture
def directory() -> Iterator[str]:
    """A short directory: a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="wapi") as found:
        yield found


@pytest.mark.parametrize(
    "address",
    ["", "unix://", "unix://relative", "tcp://::1", "tcp://h:x", "tcp://h:70000", "tcp://h/x", "http://x:1", "fd://"],
)
def test_addresses_that_are_none(address: str) -> None:
    """Words as dockerd's."""
    with pytest.raises(errors.InvalidArgument, match="Invalid bind address format"):
        open_listener(address)


def test_unix_listener_replaces_a_dead_socket_only(directory: str) -> None:
    """A socket that nobody answers is taken over, a living one is not; only the owner may connect."""
    path = f"{directory}/s"
    with open_listener(f"unix://{path}") as first:
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert first.getsockname() == path
        with pytest.raises(errors.Conflict, match="another engine answers"):
            open_listener(path)
    with open_listener(path, group="no such group"):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_unix_listener_at_a_long_path(directory: str) -> None:
    """107 bytes are no limit."""
    deep = Path(directory, "d" * 100, "e" * 100)
    deep.mkdir(parents=True)
    descriptor = os.open(deep, os.O_PATH)
    try:
        with open_listener(f"unix://{deep}/s"), socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{descriptor}/s")
    finally:
        os.close(descriptor)
    assert (deep / "s").is_socket()


@pytest.mark.parametrize(
    ("address", "plain", "tls"),
    [
        ("tcp://", "tcp://127.0.0.1:2375", "tcp://127.0.0.1:2376"),
        ("tcp://:99", "tcp://127.0.0.1:99", "tcp://127.0.0.1:99"),
        ("0.0.0.0", "tcp://0.0.0.0:2375", "tcp://0.0.0.0:2376"),
        (":99", "tcp://127.0.0.1:99", "tcp://127.0.0.1:99"),
        ("tcp://[::1]", "tcp://[::1]:2375", "tcp://[::1]:2376"),
        ("tcp://name:99/", "tcp://name:99", "tcp://name:99"),
        ("/run/x", "unix:///run/x", "unix:///run/x"),
    ],
)
def test_addresses_in_full(address: str, plain: str, tls: str) -> None:
    """No host is this machine alone, as dockerd's; TLS has a port of its own."""
    assert parse_place(address).text == plain
    assert parse_place(address, tls=True).text == tls


def test_tcp_listener() -> None:
    """IPv4 and IPv6 by literal."""
    with open_listener("tcp://127.0.0.1:0") as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
    if socket.has_ipv6:
        with open_listener("tcp://[::1]:0") as sock:
            assert sock.getsockname()[0] == "::1"
