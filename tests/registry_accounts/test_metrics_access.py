"""Who reads the counters of a registry with accounts."""

from tests.registry_accounts.serving import Registry
from wherry.registry.accounts import roles


def test_attack_a_stranger_reads_the_counters(shared: Registry) -> None:
    """Nobody but administrators and the operator's robots reads them: not strangers, users, their robots, or tokens."""
    answer = shared.ask("GET", "/metrics")
    assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Basic ")
    assert shared.ask("GET", "/metrics", user="root1", password="wrong password").status == 401
    assert shared.ask("GET", "/metrics", user="alice").status == 403
    assert shared.ask("GET", "/metrics", token=shared.token(user="root1")).status == 403
    actions = roles.robot_actions(["pull"])
    for word, maker, status in (
        ("count", None, 200),
        ("alices", shared.known.people.find("alice"), 403),
        ("roots", shared.known.people.find("root1"), 403),
    ):
        robot, secret = shared.known.robots.add(word, "alice/*", actions, maker)
        assert shared.ask("GET", "/metrics", user=robot.name, password=secret).status == status, word
    answer = shared.ask("GET", "/metrics", user="root1")
    assert answer.status == 200 and "wherry_registry_requests_total" in answer.text
