"""`wherry-registry user` and `wherry-registry token`: what the operator does on the machine, while the server runs too.

    token [--user NAME] [--name WORD] [--expires TIME] REPOSITORY ACTION[,ACTION…]      token --list
    token --revoke NAME
user add [--admin] [--password-stdin] NAME      user passwd [--password-stdin] NAME      user rm [--force] NAME
user ls                                         user admin [--off] NAME                  user invite
"""

import argparse
import getpass
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from wherry.errors import InvalidArgument, NotFound
from wherry.registry.accounts import roles
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.passwords import hash_password
from wherry.registry.accounts.people import Account, People
from wherry.registry.accounts.robots import Robots, token_scope
from wherry.registry.accounts.service import audit_path, database_url, has_accounts
from wherry.registry.accounts.sessions import Sessions
from wherry.registry.audit import FileAudit
from wherry.registry.config import Settings
from wherry.registry.units import seconds

OPERATOR = "operator"
"""Who the audit log says it was: names of accounts cannot be this one, unless an administrator makes it."""

Command = Callable[[argparse.Namespace, Settings], int]
AddCommand = Callable[[Any, str, str, Command], argparse.ArgumentParser]


def add_commands(commands: Any, add_command: AddCommand) -> None:
    """Add `user` and `token` to the parser of `wherry-registry`."""
    user = commands.add_parser("user", help="users of the registry", description="Users of the registry.")
    verbs = user.add_subparsers(metavar="COMMAND", required=True)
    add = add_command(verbs, "add", "add a user", _user_add)
    add.add_argument("--admin", action="store_true", help="an administrator of the whole registry")
    _password_flag(add)
    add.add_argument("name", metavar="NAME")
    passwd = add_command(verbs, "passwd", "set a user's password, and end the sessions and tokens it had", _user_passwd)
    _password_flag(passwd)
    passwd.add_argument("name", metavar="NAME")
    remove = add_command(verbs, "rm", "remove a user or an organisation", _user_rm)
    remove.add_argument("--force", action="store_true", help="also with repositories, and the last administrator")
    remove.add_argument("name", metavar="NAME")
    admin = add_command(verbs, "admin", "make a user an administrator of the registry", _user_admin)
    admin.add_argument("--off", action="store_true", help="no longer")
    admin.add_argument("name", metavar="NAME")
    add_command(verbs, "ls", "list users", _user_ls)
    add_command(verbs, "invite", "print the code of an invitation, good for one account and a week", _user_invite)

    token = add_command(
        commands, "token", "make a token for a machine, and print its secret: it is shown this once", _token
    )
    token.add_argument("repository", metavar="REPOSITORY", nargs="?", help="its name, or NAMESPACE/*")
    token.add_argument("actions", metavar="ACTION[,ACTION]", nargs="?", help="of pull, push, overwrite, delete")
    token.add_argument("--user", metavar="NAME", help="whose rights it never exceeds (default: the operator's)")
    token.add_argument("--name", metavar="WORD", help="what it is called (default: made up)")
    token.add_argument("--expires", metavar="TIME", default="0", help="when it ends: 12h, 90d (default: never)")
    token.add_argument("--json", action="store_true", help="print one JSON object")
    token.add_argument("--list", action="store_true", help="list the tokens")
    token.add_argument("--revoke", metavar="NAME", help="end a token: its whole name, NAMESPACE+WORD")


def _password_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")


class _Open:
    """The database and the audit log, for one command.

    Args:
        settings: the configuration.
        make: the first account may be made: it closes a registry that was everybody's.

    Raises:
        NotFound: there are none, and the command makes none.
    """

    def __init__(self, settings: Settings, *, make: bool = False) -> None:
        if not make and not has_accounts(settings):
            raise NotFound("this registry has no accounts")
        self.database = Database(database_url(settings))
        self.people = People(self.database)
        self.robots = Robots(self.database)
        self.sessions = Sessions(self.database, settings.accounts.session_lifetime)
        self._audit = FileAudit(audit_path(settings))

    def tell(self, event: str, **facts: Any) -> None:
        self._audit.record(event, caller=OPERATOR, request="", **facts)

    def user(self, name: str) -> Account:
        found = self.people.find(name)
        if found is None or not found.is_user:
            raise NotFound(f"no such user: {name}")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


def _read_password(args: argparse.Namespace) -> str:
    if args.password_stdin:
        raw = sys.stdin.buffer.read(roles.PASSWORD_MAX + 3)
        try:
            password = raw.decode()
        except UnicodeDecodeError:
            raise InvalidArgument("passwords must be valid UTF-8") from None
        password = password.removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            raise InvalidArgument("the two passwords differ")
    else:
        raise InvalidArgument("a password is needed: on a terminal, or with --password-stdin")
    return hash_password(roles.new_password(password, args.name))


def _user_add(args: argparse.Namespace, settings: Settings) -> int:
    roles.account_name(args.name)
    password = _read_password(args)
    with _Open(settings, make=True) as opened:
        opened.people.add_user(args.name, password, admin=args.admin)
        opened.tell("user.add", user=args.name, admin=args.admin)
    return 0


def _user_passwd(args: argparse.Namespace, settings: Settings) -> int:
    with _Open(settings) as opened:
        opened.user(args.name)
        opened.people.set_password(args.name, _read_password(args))
        opened.tell("user.password", user=args.name)
    return 0


def _user_rm(args: argparse.Namespace, settings: Settings) -> int:
    with _Open(settings) as opened:
        opened.people.remove(args.name, force=args.force)
        opened.tell("user.remove", user=args.name)
    return 0


def _user_admin(args: argparse.Namespace, settings: Settings) -> int:
    with _Open(settings) as opened:
        opened.people.set_admin(args.name, not args.off)
        opened.tell("user.admin", user=args.name, admin=not args.off)
    return 0


def _user_ls(_: argparse.Namespace, settings: Settings) -> int:
    if not has_accounts(settings):
        return 0
    with _Open(settings) as opened:
        last = ""
        while page := opened.people.users(last):
            for user in page:
                print(f"{user.name}\tadministrator" if user.admin else user.name)
            last = page[-1].name
    return 0


def _user_invite(_: argparse.Namespace, settings: Settings) -> int:
    with _Open(settings) as opened:
        print(opened.sessions.invite(None))
        opened.tell("invitation.add")
    return 0


def _token(args: argparse.Namespace, settings: Settings) -> int:
    if args.list and not has_accounts(settings):
        return 0
    adds = not args.list and args.revoke is None
    if adds and args.repository is not None and args.actions is not None:
        # before a database is made, which would close a registry that was everybody's
        roles.robot_actions(args.actions.split(","))
        token_scope(args.repository)
        roles.robot_word(args.name or "robot")
    with _Open(settings, make=adds and args.repository is not None and not args.user) as opened:
        if args.list:
            return _list_tokens(opened.robots)
        if args.revoke is not None:
            robot = opened.robots.revoke(args.revoke)
            opened.tell("token.revoke", token=robot.name)
            return 0
        if args.repository is None or args.actions is None:
            raise InvalidArgument("a repository and actions are needed, or --list, or --revoke NAME")
        actions = roles.robot_actions(args.actions.split(","))
        maker = opened.user(args.user) if args.user else None
        word = args.name or f"robot-{secrets.token_hex(4)}"
        robot, secret = opened.robots.add(word, args.repository, actions, maker, int(seconds(args.expires)))
        opened.tell("token.add", token=robot.name, repository=robot.repository, actions=sorted(actions))
    if args.json:
        print(json.dumps({"username": robot.name, "password": secret, "expires": robot.expires}))
    else:
        print(f"user name {robot.name}, password:", file=sys.stderr, flush=True)
        print(secret)
    return 0


def _list_tokens(robots: Robots) -> int:
    for robot in robots.all():
        until = time.strftime("%Y-%m-%d", time.gmtime(robot.expires)) if robot.expires else "never"
        print(f"{robot.name}\t{robot.repository}\t{','.join(sorted(robot.actions))}\texpires {until}")
    return 0
