"""Names, passwords, actions, settings."""

import pytest

from wherry.errors import InvalidArgument
from wherry.registry import config
from wherry.registry.accounts import roles


@pytest.mark.parametrize("name", ["al", "alice", "a-b", "a.b_c", "a__b", "x" * 39])
def test_good_names(name: str) -> None:
    """What can be a part of a repository's name can be an account's."""
    assert roles.account_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "Alice", "a/b", "a+b", "-a", "a-", "a..b", "a b", "ä", "x" * 40, "a\n", "../etc", "a:b", "\uff41\uff42"],
)
def test_bad_names(name: str) -> None:
    """Everything else cannot."""
    with pytest.raises(InvalidArgument):
        roles.account_name(name)


@pytest.mark.parametrize(
    "password", ["short", "alicealice"[:5], "aaaaaaaaaa", "x" * 2000, "with\0nul-in-it", "Alice-in-w"]
)
def test_bad_passwords(password: str) -> None:
    """Too short, too long, too simple, or the name itself."""
    with pytest.raises(InvalidArgument):
        roles.new_password(password, "alice-in-w")


def test_robot_actions_are_whole() -> None:
    """Who pushes pulls, who overwrites pushes, nobody deletes by the way."""
    assert roles.robot_actions(["push"]) == {"pull", "push"}
    assert roles.robot_actions(["overwrite"]) == {"pull", "push", "overwrite"}
    assert roles.robot_actions(["delete"]) == {"delete"}
    for wrong in ([], ["*"], ["pull", "admin"]):
        with pytest.raises(InvalidArgument):
            roles.robot_actions(wrong)


def test_writing_is_not_deleting() -> None:
    """Each role has what the one below has; deleting begins with the administrator."""
    reader, writer, admin = (roles.ACTIONS[role] for role in roles.REPOSITORY_ROLES)
    assert reader < writer < admin
    assert "delete" not in writer


@pytest.mark.parametrize(
    "wrong",
    [
        {"sign_up": True},
        {"token_lifetime": "1s"},
        {"token_lifetime": "2d"},
        {"attempts": 0},
        {"url": "ftp://host"},
        {"url": "https://host/path"},
        {"proxies": ["not a network"]},
        {"unknown": 1},
    ],
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    """A value that cannot be is refused when the configuration is read."""
    with pytest.raises(InvalidArgument):
        config.read(None, accounts=wrong)


def test_yaml_off_is_off() -> None:
    """YAML reads a plain `off` as false."""
    assert config.read(None, accounts={"sign_up": False}).accounts.sign_up == "off"
