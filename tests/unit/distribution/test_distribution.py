"""What the registry client decides without a network: challenges, credentials, endpoints, proxies, whom to trust."""

import base64
import json
from typing import Any

import pytest
from yarl import URL

from wherry.distribution import challenge, credentials, guard
from wherry.distribution.proxies import proxy_for
from wherry.distribution.settings import Settings
from wherry.distribution.transport import retry_after
from wherry.errors import Forbidden, InvalidArgument


def test_challenges() -> None:
    """Several in one field, quoted commas, escapes, any case; what is none is left out."""
    found = challenge.parse(
        ['Bearer realm="https://a/token",service="a,b",scope="x:y:pull,push", Basic realm="q\\"q"', "Negotiate"]
    )
    assert [item.scheme for item in found] == ["bearer", "basic", "negotiate"]
    assert found[0].parameters == {"realm": "https://a/token", "service": "a,b", "scope": "x:y:pull,push"}
    assert found[1].parameters == {"realm": 'q"q'}
    assert challenge.parse(['"', "", "=,=", "Bearer"])[-1].scheme == "bearer"


def test_info_shows_what_holds_for_each_registry() -> None:
    """Docker's `RegistryConfig`: the Hub always, others where something was said of them."""
    settings = Settings(
        ("https://m.test", "quay.io=http://q.test/"),
        ("10.0.0.0/8", "plain.test:5000"),
        {"own.test": {"insecure": True}},
    )
    found = settings.describe()
    assert found["Mirrors"] == ["https://m.test/"]
    assert found["InsecureRegistryCIDRs"] == ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]
    assert found["IndexConfigs"] == {
        "docker.io": {"Name": "docker.io", "Mirrors": ["https://m.test/"], "Secure": True, "Official": True},
        "own.test": {"Name": "own.test", "Mirrors": [], "Secure": False, "Official": False},
        "plain.test:5000": {"Name": "plain.test:5000", "Mirrors": [], "Secure": False, "Official": False},
        "quay.io": {"Name": "quay.io", "Mirrors": ["http://q.test/"], "Secure": True, "Official": False},
    }


def test_credentials_of_a_header() -> None:
    """base64url of Docker's AuthConfig, with and without padding; what is none is nobody, and secrets are not shown."""
    auth = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "p?>"}).encode()).decode()
    for text in (auth, auth.rstrip("=")):
        found = credentials.from_header(text)
        assert (found.username, found.password) == ("u", "p?>")
        assert "p?>" not in repr(found)
    for text in ("", "{}", "e30=", "%%%", "x" * 100_000):
        assert not credentials.from_header(text)
    assert credentials.from_json({"auth": base64.b64encode(b"a:b:c").decode()}).password == "b:c"
    assert credentials.from_json({"identitytoken": "t"})
    with pytest.raises(InvalidArgument):
        credentials.from_json([])


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("", "docker.io"),
        ("https://r.example:5000/v2/", "r.example:5000"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_server_addresses(server: str, host: str) -> None:
    """What clients call a registry when they log in."""
    assert credentials.server_host(server) == host


def test_endpoints() -> None:
    """Mirrors come first and are not the registry; plain http is only for this machine and what is named insecure."""
    settings = Settings(
        ["https://m.example", "quay.io=http://127.0.0.1:5000/proxy"],
        ["10.0.0.0/8", "plain.example"],
        {"r.example": {"mirrors": ["https://m2.example/v2"], "insecure": True}},
    )
    assert [(e.host, e.mirror, e.schemes) for e in settings.endpoints("docker.io")] == [
        ("m.example", True, ("https",)),
        ("registry-1.docker.io", False, ("https",)),
    ]
    assert settings.endpoints("quay.io")[0].prefix == "proxy/"
    assert (settings.endpoints("r.example")[0].base, settings.endpoints("r.example")[0].prefix) == ("/v2", "")
    for host in ("10.1.2.3:5000", "plain.example:80", "localhost:5000", "127.0.0.9", "[::1]:5000", "r.example"):
        assert settings.endpoints(host)[-1].schemes == ("https", "http"), host
    assert settings.endpoints("11.0.0.1")[-1].schemes == ("https",)


@pytest.mark.parametrize("mirror", ["ftp://a", "a", "https://u:p@a", "https://a?x=1"])
def test_mirrors_that_are_none(mirror: str) -> None:
    """A mirror is an http address without user and query."""
    with pytest.raises(InvalidArgument, match="invalid mirror"):
        Settings([mirror])


def test_registries_that_are_none() -> None:
    """An unknown setting of a registry, or one of a wrong type, is named."""
    wrong: list[Any] = [{"mirror": []}, {"insecure": "yes"}, {"mirrors": [1]}, []]
    for values in wrong:
        with pytest.raises(InvalidArgument, match=r"registries: r\.example"):
            Settings(hosts={"r.example": values})


@pytest.mark.parametrize(
    ("realm", "registry", "may"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io", True),
        ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com", True),
        ("https://ghcr.io/token", "https://ghcr.io", True),
        ("https://r.example:8443/t", "https://r.example:5000", True),
        ("https://evil.com/token", "https://registry-1.docker.io", False),
        ("https://evildocker.io/token", "https://registry-1.docker.io", False),
        ("https://evil.io/token", "https://quay.io", False),
        ("https://evil.co.uk/token", "https://registry.co.uk", False),
        ("https://10.0.0.2/t", "https://10.0.0.1", False),
    ],
)
def test_who_may_see_a_credential(realm: str, registry: str, may: bool) -> None:
    """A token server of the registry's own host or site, and no other."""
    assert guard.may_see_credential(URL(realm), URL(registry)) is may
    assert guard.may_see_credential(URL(realm), URL(registry), [URL(realm).host or ""])


def test_where_a_registry_must_not_send_us() -> None:
    """No downgrade, no link-local address, this machine only from this machine."""
    far = URL("https://r.example")
    guard.check_target(URL("https://cdn.example/x"), far, what="a redirect")
    for target in ("http://r.example/x", "https://169.254.169.254/", "https://127.0.0.1/", "https://localhost/"):
        with pytest.raises(Forbidden):
            guard.check_target(URL(target), far, what="a redirect")
    guard.check_target(URL("http://127.0.0.2:1/"), URL("http://127.0.0.1:5000"), what="a redirect")


@pytest.mark.parametrize(
    ("url", "exceptions", "direct"),
    [
        ("https://r.example/", "", False),
        ("https://r.example/", "r.example", True),
        ("https://a.r.example/", "r.example", True),
        ("https://ar.example/", "r.example", False),
        ("https://r.example/", ".r.example", False),
        ("https://a.r.example/", ".r.example", True),
        ("https://10.1.1.1/", "10.0.0.0/8", True),
        ("https://r.example:5000/", "r.example:5000", True),
        ("https://r.example:5001/", "r.example:5000", False),
        ("https://r.example/", "x, *", True),
        ("https://127.0.0.1:5000/", "", True),
        ("https://localhost/", "", True),
    ],
)
def test_proxies(url: str, exceptions: str, direct: bool) -> None:
    """The variables as Go reads them."""
    found = proxy_for(URL(url), {"HTTPS_PROXY": "proxy:3128", "no_proxy": exceptions})
    assert found == (None if direct else URL("http://proxy:3128"))


def test_retry_after() -> None:
    """Seconds, a date, or nothing."""
    assert retry_after("7") == 7
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after(None) is None
    assert retry_after("soon") is None
