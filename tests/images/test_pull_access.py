"""Who asks a registry: passwords and tokens go to whom they are for, and to nobody else."""

import pytest
from aiohttp import web

from wherry.distribution.credentials import Credential
from wherry.errors import (
    Forbidden,
    HostileInput,
    InvalidArgument,
    Unauthorized,
    WherryError,
)

from .fake_registry import layer
from .pulling import KEY, Pulls, guarded, headers, pulls

__all__ = ["pulls"]

pytestmark = pytest.mark.root


def test_token_and_basic_auth(pulls: Pulls) -> None:
    """A token server is asked with the password, the registry with the token; basic auth works too."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))
    there.before = guarded(there, f"http://{there.name}/token")
    assert "incorrect username or password" in pulls.refused(f"{there.name}/a:1", Unauthorized)
    pulls.pull(f"{there.name}/a:1", KEY)
    basic = there.registry = pulls.registry("127.0.0.3")  # type: ignore[attr-defined]
    basic.add("a", "1", layer("two"))

    async def plain(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == KEY.basic:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    basic.before = plain
    pulls.pull(f"{basic.name}/a:1", KEY)
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        pulls.pull(f"{basic.name}/a:1")


def test_attack_34_a_realm_on_another_host_gets_no_credential(pulls: Pulls) -> None:
    """CVE-2020-15157 and its kin: the token server of another host is asked without the password, and the user told."""
    there, thief = pulls.registry(), pulls.registry("127.0.0.2")
    there.add("a", "1", layer("one"))
    there.before = guarded(there, f"http://{thief.name}/token")
    thief.before = guarded(thief, "")
    words = pulls.refused(f"{there.name}/a:1", Unauthorized, credential=KEY)
    assert "token server of another site" in words
    assert thief.paths() == ["/token"]
    assert headers(thief.seen) == []
    token = Credential(identity_token="refresh")
    pulls.refused(f"{there.name}/a:1", Unauthorized, credential=token)
    assert thief.paths("POST") == []
    # unless the settings say that it may
    pulls.pull(f"{there.name}/a:1", KEY, hosts={there.name: {"realms": ["127.0.0.2"]}})


def test_attack_34_a_redirect_drops_the_credential(pulls: Pulls) -> None:
    """A blob that lies on another host is fetched from there without what proves who asks; foreign URLs never are."""
    there, other = pulls.registry(), pulls.registry("127.0.0.2")
    manifest = there.add("a", "1", layer("one"))
    manifest["layers"][0]["urls"] = [f"http://{other.name}/stolen"]
    there.put("a", "1", manifest)
    other.blobs = dict(there.blobs)
    ask = guarded(there, f"http://{there.name}/token")

    async def redirect(request: web.Request) -> web.StreamResponse | None:
        answer: web.StreamResponse | None = await ask(request)
        if answer is None and "/blobs/" in request.path:
            return web.Response(status=307, headers={"Location": f"http://{other.name}{request.path}"})
        return answer

    there.before = redirect
    pulls.pull(f"{there.name}/a:1", KEY)
    assert len(other.seen) == 2
    assert headers(other.seen) == []
    assert "/stolen" not in other.paths()


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "file:///etc/shadow",
        "ftp://127.0.0.1/x",
        "http://0.0.0.0/x",
        "http://user:word@127.0.0.1/x",
        "http://[bad",
        "",
    ],
)
def test_attack_34_redirects_that_are_not_followed(pulls: Pulls, location: str) -> None:
    """No link-local target, no other scheme, no user in a URL, no circle."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))

    async def redirect(request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" not in request.path:
            return None
        return web.Response(status=307, headers={"Location": location})

    there.before = redirect
    pulls_error = (Forbidden, HostileInput, InvalidArgument)
    with pytest.raises(pulls_error):
        pulls.pull(f"{there.name}/a:1")


def test_no_secret_is_in_an_error(pulls: Pulls) -> None:
    """Whatever fails, neither words nor facts nor repr have the password."""
    there = pulls.registry()
    there.before = guarded(there, f"http://{there.name}/token")
    wrong = Credential("user", "h1dden-word")
    with pytest.raises(WherryError) as caught:
        pulls.pull(f"{there.name}/a:1", wrong)
    shown = f"{caught.value!r} {caught.value} {caught.value.facts} {wrong!r}"
    assert "h1dden-word" not in shown
    assert wrong.basic not in shown
