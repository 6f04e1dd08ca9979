"""Docker's token flow, logins and their limits, revocation."""

import re
import statistics
import time
from collections.abc import Callable

import pytest

from tests.registry_accounts.serving import PASSWORD, Registry
from wherry.registry.accounts import roles

Start = Callable[..., Registry]


def test_challenge_names_realm_service_and_scope(shared: Registry) -> None:
    """Whoever brings nothing learns where a token is to be had, and for what."""
    answer = shared.ask("GET", "/v2/")
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == f'Bearer realm="http://{shared.host}/token",service="wherry-registry"'
    answer = shared.ask("POST", "/v2/alice/app/blobs/uploads/")
    assert answer.status == 401
    assert 'scope="repository:alice/app:pull,push"' in answer.headers["www-authenticate"]
    assert answer.json["errors"][0]["code"] == "UNAUTHORIZED"


def test_a_host_header_gets_nothing_into_the_challenge(shared: Registry) -> None:
    """What is no host name is not repeated."""
    answer = shared.ask("GET", "/v2/", **{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
    assert f'realm="http://{shared.host}/token"' in answer.headers["www-authenticate"]


def test_get_and_post_give_tokens(shared: Registry) -> None:
    """GET with Basic, and OAuth 2's password grant, give a token for what was asked and may be."""
    answer = shared.ask(
        "GET", "/token?service=wherry-registry&scope=repository:alice/app:pull,push,delete", user="alice"
    )
    assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
    assert answer.json["expires_in"] == 300 and answer.json["token"] == answer.json["access_token"]
    form = f"grant_type=password&service=wherry-registry&username=alice&password={PASSWORD.replace(' ', '+')}"
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    body = f"{form}&scope=repository:alice/app:pull+repository:bob/x:pull,push".encode()
    answer = shared.ask("POST", "/token", body=body, **kind)
    assert answer.status == 200 and answer.json["scope"] == "repository:alice/app:pull"
    assert shared.ask("GET", "/v2/", token=answer.json["access_token"]).status == 200
    wrong = body.replace(b"horse", b"house")
    assert shared.ask("POST", "/token", body=wrong, **kind).status == 401
    assert shared.ask("POST", "/token", body=b"grant_type=refresh_token&refresh_token=x", **kind).status == 400


def test_nobody_in_particular_reads_what_is_public(shared: Registry) -> None:
    """Public is readable with an anonymous token and without any; private asks for a login, there or not."""
    shared.push("alice/open", user="alice")
    shared.push("alice/closed", user="alice")
    shared.known.shelves.set("alice/open", public=True)
    token = shared.token("repository:alice/open:pull", "repository:alice/closed:pull")
    for who in ({"token": token}, {}):
        assert shared.ask("GET", "/v2/alice/open/manifests/latest", **who).status == 200
        assert shared.ask("GET", "/v2/alice/closed/manifests/latest", **who).status == 401
        assert shared.ask("GET", "/v2/alice/not-there/manifests/latest", **who).status == 401
        assert shared.ask("PUT", "/v2/alice/open/manifests/x", body=b"{}", **who).status == 401
    assert shared.ask("GET", "/v2/alice/open/manifests/latest", user="bob").status == 200
    closed = shared.ask("GET", "/v2/alice/closed/manifests/latest", user="bob")
    missing = shared.ask("GET", "/v2/alice/not-there/manifests/latest", user="bob")
    assert closed.status == missing.status == 404
    assert closed.text.replace("closed", "") == missing.text.replace("not-there", "")


def test_the_catalog_shows_what_one_may_know_of(shared: Registry) -> None:
    """`_catalog` needs its scope in a token, and lists per caller."""
    shared.push("bob/secret", user="bob")
    assert "bob/secret" in shared.ask("GET", "/v2/_catalog", user="bob").json["repositories"]
    assert "bob/secret" not in shared.ask("GET", "/v2/_catalog", user="carol").json["repositories"]
    token = shared.token("registry:catalog:*", user="bob")
    assert "bob/secret" in shared.ask("GET", "/v2/_catalog", token=token).json["repositories"]
    assert shared.ask("GET", "/v2/_catalog", token=shared.token(user="bob")).status == 401


def test_the_catalog_asks_who_is_there(shared: Registry) -> None:
    """Clients send credentials when they are challenged only; a token for nobody lists what is public."""
    shared.push("bob/shown", user="bob")
    shared.known.shelves.set("bob/shown", public=True)
    shared.push("bob/hidden", user="bob")
    asked = shared.ask("GET", "/v2/_catalog")
    assert asked.status == 401
    assert 'scope="registry:catalog:*"' in asked.headers["www-authenticate"]
    found = shared.ask("GET", "/v2/_catalog", token=shared.token("registry:catalog:*")).json["repositories"]
    assert "bob/shown" in found
    assert "bob/hidden" not in found


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer", "Bearer x.y.z", "Digest x", "Basic " + "QUFB" * 9000, "\u00ff"],
)
def test_odd_credentials_are_refused(shared: Registry, header: str) -> None:
    """What cannot be read is a wrong credential, at every door."""
    for path in ("/v2/", "/token", "/v1/search?q=x"):
        assert shared.ask("GET", path, Authorization=header).status in (400, 401), path


@pytest.mark.parametrize(
    "scope", ["", "x", "repository:", "repository:../x:pull", "repository:A:pull", "a" * 3000, ":::::"]
)
def test_odd_scopes_give_nothing(shared: Registry, scope: str) -> None:
    """A scope that is none is left out, and the token opens nothing."""
    token = shared.token(scope, user="alice")
    assert shared.ask("GET", "/v2/alice/app/tags/list", token=token).status == 401


def test_create_on_push(shared: Registry) -> None:
    """One pushes into one's own namespace, and into organisations with the right to write; nowhere else."""
    people = shared.known.people
    alice = people.find("alice")
    assert alice is not None
    team = people.add_organisation("team", alice)
    people.set_member(team, "bob", "writer")
    people.set_member(team, "carol", "reader")
    for user, name, allowed in (
        ("alice", "alice/made", True),
        ("alice", "bob/made", False),
        ("alice", "made", False),
        ("alice", "nobody/made", False),
        ("alice", "team/one", True),
        ("bob", "team/two", True),
        ("carol", "team/three", False),
        ("root1", "made", True),
    ):
        status = shared.ask("POST", f"/v2/{name}/blobs/uploads/", user=user).status
        assert (status == 202) == allowed, (user, name, status)
        assert (shared.known.shelves.find(name) is not None) == allowed
    shelf = shared.known.shelves.find("team/two")
    assert shelf is not None and not shelf.public


def test_revocation_is_immediate(shared: Registry) -> None:
    """A bearer token that is still good by its dates opens nothing after its account or robot lost the right."""
    accounts = shared.known
    shared.add("gone", "fickle")
    owner = accounts.people.find("alice")
    assert owner is not None
    crew = accounts.people.add_organisation("crew", owner)
    accounts.people.set_member(crew, "gone", "writer")
    shared.push("crew/app", user="alice")

    def reads(**who: str) -> int:
        return shared.ask("GET", "/v2/crew/app/manifests/latest", **who).status

    token = shared.token("repository:crew/app:pull,push", user="gone")
    assert reads(token=token) == 200 and reads(user="gone") == 200
    accounts.people.set_member(crew, "gone", "")
    assert reads(token=token) == 404 and reads(user="gone") == 404
    accounts.people.set_member(crew, "gone", "reader")
    assert reads(token=token) == 200
    assert shared.ask("POST", "/v2/crew/app/blobs/uploads/", token=token).status == 403
    accounts.people.remove("gone")
    assert reads(token=token) == 401 and reads(user="gone") == 401
    shared.add("gone")
    assert reads(token=token) == 401  # the same name is another account

    robot, secret = accounts.robots.add("ci", "crew/*", roles.robot_actions(["pull"]), owner)
    token = shared.token("repository:crew/app:pull", user=robot.name, password=secret)
    assert reads(token=token) == 200
    accounts.robots.revoke(robot.name)
    assert reads(token=token) == 401 and reads(user=robot.name, password=secret) == 401

    accounts.people.set_member(crew, "fickle", "reader")
    token = shared.token("repository:crew/app:pull", user="fickle")
    accounts.people.set_password("fickle", accounts.people.find("alice").password)  # type: ignore[union-attr]
    assert reads(token=token) == 401


def test_robots_log_in_by_their_name(shared: Registry) -> None:
    """A robot's secret goes with its name only, ends when its time is over, and is kept as a hash."""
    accounts = shared.known
    robot, secret = accounts.robots.add("short", "alice/app", roles.robot_actions(["pull"]), None, 1)
    assert shared.ask("GET", "/v2/", user="alice", password=secret).status == 401
    assert secret.encode() not in (shared.root / "accounts.db").read_bytes()
    deadline = time.time() + 5
    while shared.ask("GET", "/v2/", user=robot.name, password=secret).status == 200:
        assert time.time() < deadline
        time.sleep(0.1)
    assert shared.ask("GET", "/v2/", user=robot.name, password=secret).status == 401


def test_unknown_users_take_as_long(start: Start) -> None:
    """Time does not tell whether a user is there."""
    registry = start(attempts=1000)
    registry.add("alice")
    took: dict[str, list[float]] = {"alice": [], "nobody": []}
    for _ in range(6):
        for name, times in took.items():
            began = time.perf_counter()
            answer = registry.ask("GET", "/v2/", user=name, password="wrong password")
            times.append(time.perf_counter() - began)
            assert answer.status == 401
    known, unknown = (min(times[1:]) for times in took.values())
    assert unknown > known * 0.5 and known > unknown * 0.5, took
    assert statistics.median(took["nobody"]) > 0.005


def test_audit_log_has_what_happened_and_no_secret(start: Start) -> None:
    """Logins, failures, pushes and deletions are written, by whom and from where; nothing one could log in with."""
    registry = start()
    registry.add("alice")
    token = registry.token(user="alice")
    registry.ask("GET", "/token", user="alice", password="wrong password")
    digest = registry.push("alice/app", user="alice")
    registry.ask("DELETE", f"/v2/alice/app/manifests/{digest}", user="alice")
    events = [(entry["event"], entry["caller"]) for entry in registry.audit()]
    for event in ("login", "login.failed", "manifest.push", "manifest.delete"):
        assert (event, "alice") in events, events
    text = (registry.root / "audit.log").read_text()
    assert PASSWORD not in text and "wrong password" not in text and token not in text
    assert not re.search("argon2|wry_", text)


def test_believed_proxies_only(start: Start) -> None:
    """Forwarding headers count only from networks that the configuration names."""
    registry = start(attempts=1, proxies=["127.0.0.0/8"])
    registry.add("alice")
    for number in range(3):
        answer = registry.ask(
            "GET",
            "/v2/",
            user="alice",
            password="wrong password",
            **{"X-Forwarded-For": f"203.0.113.9, 198.51.100.{number}"},
        )
        assert answer.status == 401
        assert registry.audit()[-1]["address"] == f"198.51.100.{number}"
    answer = registry.ask("GET", "/v2/", **{"X-Forwarded-Proto": "https"})
    assert 'realm="https://' in answer.headers["www-authenticate"]
