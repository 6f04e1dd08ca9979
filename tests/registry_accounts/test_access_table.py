"""Who may do what, as a table of method, credential and state of the tag.

GHSA of zot: a push token deletes; `latest` is overwritten with the right to create only; removed members linger.
"""

import json
from typing import Any

import pytest

from tests.registry_accounts.serving import PASSWORD, Registry
from wherry.registry.accounts import roles

NAME = "alice/table"
IMMUTABLE = "alice/fixed"

WHO = (
    "owner",
    "admin",
    "writer",
    "reader",
    "stranger",
    "anonymous",
    "site",
    "robot-pull",
    "robot-push",
    "robot-over",
    "robot-del",
)
"""Credentials; each is used with Basic and by a bearer token that asked for everything."""

MAY: dict[str, set[str]] = {
    "pull": {"owner", "admin", "writer", "reader", "site", "robot-pull", "robot-push", "robot-over"},
    "list tags": {"owner", "admin", "writer", "reader", "site", "robot-pull", "robot-push", "robot-over"},
    "upload": {"owner", "admin", "writer", "site", "robot-push", "robot-over"},
    "new tag": {"owner", "admin", "writer", "site", "robot-push", "robot-over"},
    "same tag again": {"owner", "admin", "writer", "site", "robot-push", "robot-over"},
    "move tag": {"owner", "admin", "writer", "site", "robot-over"},
    "delete tag": {"owner", "admin", "site", "robot-del"},
    "delete manifest": {"owner", "admin", "site", "robot-del"},
    "delete blob": {"owner", "admin", "site", "robot-del"},
}

Manifests = dict[str, Any]


@pytest.fixture(scope="module")
def table(shared: Registry) -> dict[str, Any]:
    """The repositories, their members, the robots' secrets."""
    accounts = shared.known
    alice = accounts.people.find("alice")
    shared.add("dora", "erik")
    for name in (NAME, IMMUTABLE):
        accounts.shelves.add(name, public=False)
        accounts.shelves.set_member(name, "bob", "writer")
        accounts.shelves.set_member(name, "carol", "reader")
        accounts.shelves.set_member(name, "dora", "admin")
    accounts.shelves.set(IMMUTABLE, immutable=True)
    secrets = {}
    for word, actions in {
        "pull": ["pull"],
        "push": ["push"],
        "over": ["overwrite"],
        "del": ["delete"],
    }.items():
        robot, secret = accounts.robots.add(word, NAME, roles.robot_actions(actions), alice)
        secrets[f"robot-{word}"] = (robot.name, secret)
    secrets |= {
        "owner": ("alice", PASSWORD),
        "admin": ("dora", PASSWORD),
        "writer": ("bob", PASSWORD),
        "reader": ("carol", PASSWORD),
        "stranger": ("erik", PASSWORD),
        "site": ("root1", PASSWORD),
        "anonymous": ("", ""),
    }
    first, second = (shared.image(NAME, architecture=arch, user="alice") for arch in ("amd64", "arm64"))
    shared.image(IMMUTABLE, user="alice")
    for arch in ("amd64", "arm64"):
        shared.image(IMMUTABLE, architecture=arch, user="alice")
    loose = shared.push_blob(NAME, b"loose", user="alice")
    return {"secrets": secrets, "first": first, "second": second, "loose": loose}


def _credential(shared: Registry, table: dict[str, Any], who: str, how: str, scope: str) -> dict[str, str]:
    name, password = table["secrets"][who]
    if how == "basic":
        return {"user": name, "password": password}
    return {"token": shared.token(f"repository:{NAME}:{scope}", user=name, password=password)}


def _do(shared: Registry, table: dict[str, Any], action: str, credential: dict[str, str]) -> int:
    """Do it; returns the status. Whatever the outcome, the next one finds the same state."""
    first, second = table["first"], table["second"]
    assert shared.put(NAME, "latest", first, user="alice").status == 201
    digest = shared.put(NAME, "old", second, user="alice").headers["docker-content-digest"]
    if action == "pull":
        return shared.ask("GET", f"/v2/{NAME}/manifests/latest", **credential).status
    if action == "list tags":
        return shared.ask("GET", f"/v2/{NAME}/tags/list", **credential).status
    if action == "upload":
        return shared.ask("POST", f"/v2/{NAME}/blobs/uploads/", **credential).status
    if action == "new tag":
        status = shared.put(NAME, "brand-new", first, **credential).status
        shared.ask("DELETE", f"/v2/{NAME}/manifests/brand-new", user="alice")
        return status
    if action == "same tag again":
        return shared.put(NAME, "latest", first, **credential).status
    if action == "move tag":
        status = shared.put(NAME, "latest", second, **credential).status
        now = shared.ask("GET", f"/v2/{NAME}/manifests/latest", user="alice").json
        assert (now == second) == (status == 201)
        return status
    if action == "delete tag":
        return shared.ask("DELETE", f"/v2/{NAME}/manifests/old", **credential).status
    if action == "delete manifest":
        return shared.ask("DELETE", f"/v2/{NAME}/manifests/{digest}", **credential).status
    shared.push_blob(NAME, b"loose", user="alice")
    return shared.ask("DELETE", f"/v2/{NAME}/blobs/{table['loose']}", **credential).status


@pytest.mark.parametrize("how", ["basic", "bearer"])
@pytest.mark.parametrize("who", WHO)
def test_method_by_credential(shared: Registry, table: dict[str, Any], who: str, how: str) -> None:
    """Everybody may do what the table says and nothing else, with a password and with a token that asked for all."""
    credential = _credential(shared, table, who, how, "*")
    for action, allowed in MAY.items():
        status = _do(shared, table, action, credential)
        assert (status < 300) == (who in allowed), (action, who, how, status)
        if who not in allowed:
            assert status in (401, 403, 404), (action, who, how, status)


@pytest.mark.parametrize("scope", ["pull", "pull,push", "delete"])
def test_method_by_scope(shared: Registry, table: dict[str, Any], scope: str) -> None:
    """The owner's token does what it was made for: one for pushing does not delete, one for deleting does not pull."""
    credential = _credential(shared, table, "owner", "bearer", scope)
    for action in MAY:
        needs = "delete" if action.startswith("delete") else "pull" if action in ("pull", "list tags") else "push"
        status = _do(shared, table, action, credential)
        assert (status < 300) == (needs in scope.split(",")), (action, scope, status)
        if status >= 300:
            assert status == 401, (action, scope, status)


@pytest.mark.parametrize("who", ["owner", "admin", "writer", "site"])
def test_immutable_tags_stay(shared: Registry, table: dict[str, Any], who: str) -> None:
    """In a repository of immutable tags nobody moves one; a new one, and the same again, are no move."""
    name, password = table["secrets"][who]
    credential = {"user": name, "password": password}
    assert shared.put(IMMUTABLE, f"v-{who}", table["first"], **credential).status == 201
    assert shared.put(IMMUTABLE, f"v-{who}", table["first"], **credential).status == 201
    assert shared.put(IMMUTABLE, f"v-{who}", table["second"], **credential).status == 403
    assert shared.ask("GET", f"/v2/{IMMUTABLE}/manifests/v-{who}", user="alice").json == table["first"]
    token = shared.token(f"repository:{IMMUTABLE}:*", user=name, password=password)
    assert shared.put(IMMUTABLE, f"v-{who}", table["second"], token=token).status == 403
    # by digest with further tags is the same thing by another way
    raw = json.dumps(table["second"]).encode()
    import hashlib

    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    answer = shared.put(IMMUTABLE, f"{digest}?tag=v-{who}", table["second"], **credential)
    assert answer.status == 403
    # deleting it and pushing anew is a third way
    first = hashlib.sha256(json.dumps(table["first"]).encode()).hexdigest()
    for reference in (f"v-{who}", f"sha256:{first}"):
        assert shared.ask("DELETE", f"/v2/{IMMUTABLE}/manifests/{reference}", **credential).status == 403
    assert shared.ask("GET", f"/v2/{IMMUTABLE}/manifests/v-{who}", user="alice").json == table["first"]


def test_a_robot_is_for_its_repository(shared: Registry, table: dict[str, Any]) -> None:
    """A token for one repository opens no other one, and gets no scope for one."""
    shared.push("alice/other", user="alice")
    name, secret = table["secrets"]["robot-over"]
    assert shared.ask("GET", "/v2/alice/other/tags/list", user=name, password=secret).status == 404
    token = shared.token("repository:alice/other:pull,push", user=name, password=secret)
    assert shared.ask("GET", "/v2/alice/other/tags/list", token=token).status == 404
    assert shared.ask("POST", "/v2/alice/new/blobs/uploads/", user=name, password=secret).status == 403


def test_cve_2022_31667_a_robot_never_exceeds_its_maker(shared: Registry, table: dict[str, Any]) -> None:
    """A token made by an administrator of the repository shrinks with that role, also when it asked for more."""
    accounts = shared.known
    dora = accounts.people.find("dora")
    robot, secret = accounts.robots.add("dora", NAME, roles.ALL, dora)
    token = shared.token(f"repository:{NAME}:*", user=robot.name, password=secret)
    assert _do(shared, table, "move tag", {"token": token}) == 201
    accounts.shelves.set_member(NAME, "dora", "reader")
    assert _do(shared, table, "move tag", {"token": token}) == 403
    assert _do(shared, table, "delete tag", {"user": robot.name, "password": secret}) == 403
    assert _do(shared, table, "pull", {"token": token}) == 200
    accounts.shelves.set_member(NAME, "dora", "")
    assert _do(shared, table, "pull", {"token": token}) == 404
    accounts.shelves.set_member(NAME, "dora", "admin")


def test_mount_needs_the_right_to_read_the_source(shared: Registry, table: dict[str, Any]) -> None:
    """CVE-2024-39897: a blob of a private repository cannot be had by mounting it into one's own."""
    digest = shared.push_blob("alice/hidden", b"secret layer", user="alice")
    path = f"/v2/bob/mine/blobs/uploads/?mount={digest}&from=alice/hidden"
    assert shared.ask("POST", path, user="bob").status == 202
    assert shared.ask("GET", f"/v2/bob/mine/blobs/{digest}", user="bob").status == 404
    token = shared.token("repository:bob/mine:pull,push", "repository:alice/hidden:pull", user="bob")
    assert shared.ask("POST", path, token=token).status == 202
    assert shared.ask("POST", f"/v2/bob/mine/blobs/uploads/?mount={digest}", user="bob").status == 202
    accounts = shared.known
    accounts.shelves.set_member("alice/hidden", "bob", "reader")
    assert shared.ask("POST", path, user="bob").status == 201
    assert shared.ask("GET", f"/v2/bob/mine/blobs/{digest}", user="bob").status == 200
