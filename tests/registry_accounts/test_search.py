"""`/v1/search`, as `docker search` asks it."""

from collections.abc import Callable

from tests.registry_accounts.serving import Registry
from wherry.registry.accounts import roles


def _names(registry: Registry, query: str, **who: str) -> list[str]:
    answer = registry.ask("GET", f"/v1/search?{query}", **who)
    assert answer.status == 200, answer.text
    return [result["name"] for result in answer.json["results"]]


def test_shape_is_docker_hubs_old_one(shared: Registry) -> None:
    """Ping and search answer in the shape that dockerd reads."""
    assert shared.ask("GET", "/v1/_ping").json == {"standalone": True}
    shared.known.shelves.add("alice/shape", public=True, summary="A shape of its own")
    answer = shared.ask("GET", "/v1/search?q=shape&n=25").json
    assert {key: answer[key] for key in ("query", "page", "page_size", "num_pages", "num_results")} == {
        "query": "shape",
        "page": 1,
        "page_size": 25,
        "num_pages": 1,
        "num_results": 1,
    }
    (result,) = answer["results"]
    assert result["name"] == "alice/shape" and result["description"] == "A shape of its own"
    assert {"star_count", "is_official", "is_automated"} <= result.keys()


def test_private_repositories_are_found_by_members_only(shared: Registry) -> None:
    """Owner, members, members of the organisation and administrators find them; by password, token and robot."""
    accounts = shared.known
    accounts.shelves.add("alice/findme", public=False)
    accounts.shelves.set_member("alice/findme", "bob", "reader")
    for user, found in (("alice", True), ("bob", True), ("root1", True), ("carol", False), ("", False)):
        assert (_names(shared, "q=findme", user=user) == ["alice/findme"]) == found, user
    alice = accounts.people.find("alice")
    robot, secret = accounts.robots.add("seek", "alice/findme", roles.robot_actions(["pull"]), alice)
    other, other_secret = accounts.robots.add("other", "alice/else", roles.robot_actions(["pull"]), alice)
    assert _names(shared, "q=findme", user=robot.name, password=secret) == ["alice/findme"]
    assert _names(shared, "q=findme", user=other.name, password=other_secret) == []
    assert _names(shared, "q=findme", token=shared.token(user="bob")) == ["alice/findme"]
    accounts.shelves.set_member("alice/findme", "bob", "")
    assert _names(shared, "q=findme", user="bob") == []


def test_wrong_credentials_are_refused(shared: Registry) -> None:
    """Who brings a wrong password is told so, and does not silently search as nobody."""
    assert shared.ask("GET", "/v1/search?q=x", user="alice", password="wrong password").status == 401


def test_pages_and_order(shared: Registry) -> None:
    """The best match is first, pages do not overlap, sizes are bounded."""
    for name in ("alice/zz-web", "alice/web", "alice/web-two", "bob/cobweb"):
        shared.known.shelves.add(name, public=True)
    assert _names(shared, "q=web")[0] == "alice/web"
    assert _names(shared, "q=WEB")[0] == "alice/web"
    first, second = _names(shared, "q=web&n=2&page=1"), _names(shared, "q=web&n=2&page=2")
    assert len(first) == len(second) == 2 and not set(first) & set(second)
    assert shared.ask("GET", "/v1/search?q=web&n=2").json["num_pages"] == 2
    for odd in ("n=0", "n=-5", "n=999999999999999999999", "page=0", "page=99999999999", "n=x", "q=%25", "q=_", "q=%00"):
        assert shared.ask("GET", f"/v1/search?{odd}").status == 200, odd
    assert _names(shared, "q=%25") == []


def test_podman_goes_where_its_credentials_are_sent(shared: Registry) -> None:
    """containers/image sends none to this address: refused, it asks the catalog, with them."""
    answer = shared.ask("GET", "/v1/search?q=web", User_Agent="containers/5.23.1 (github.com/containers/image)")
    assert answer.status == 401
    agent = "containers/5.23.1 (github.com/containers/image)"
    assert shared.ask("GET", "/v1/search?q=web", user="alice", User_Agent=agent).status == 200


def test_without_accounts_everybody_finds_all(tmp_path_factory: object, start: Callable[..., Registry]) -> None:
    """An open registry searches by name."""
    registry = start(open_to_all=True)
    registry.push("some/thing")
    registry.push("thing")
    assert _names(registry, "q=thing") == ["thing", "some/thing"]
    assert registry.ask("GET", "/v2/").status == 200
    assert registry.ask("GET", "/token").status == 404
