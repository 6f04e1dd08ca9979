"""`login` and `logout`."""

import os

from wherry.cli.credentials import HUB, Config, server_of
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, line
from wherry.cli.prompt import ask


def _login(command: Invocation) -> None:
    server = server_of(command.args[0] if command.args else "")
    user, password = command["username"], command["password"]
    if password and command["password-stdin"]:
        raise Failure("--password and --password-stdin are mutually exclusive")
    if password:
        err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    config = Config()
    token = ""
    if command["password-stdin"]:
        if not user:
            raise Failure("Must provide --username with --password-stdin")
        password = _all_of_stdin().rstrip("\r\n")
    elif not password:
        known = config.get(server)
        if known and not user:
            user, password, token = known.get("username", ""), known.get("password", ""), known.get("identitytoken", "")
            line("Authenticating with existing credentials...")
        else:
            user, password = _asked(user)
    if not token and (not user or not password):
        raise Failure("username and password are needed")
    answer = command.client.call(
        "POST",
        "/auth",
        None,
        {"username": user, "password": password, "identitytoken": token, "serveraddress": server},
    )
    if config.store(server, user, password, str(answer.get("IdentityToken") or token)):
        err(
            f"\nWARNING! Your credentials are stored unencrypted in '{config.path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    line(str(answer.get("Status") or "Login Succeeded"))


def _all_of_stdin() -> str:
    pieces = []
    while piece := os.read(0, 65536):
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def _asked(user: str) -> "tuple[str, str]":
    if not os.isatty(0):
        raise Failure("Cannot perform an interactive login from a non TTY device")
    return user or ask("Username: "), ask("Password: ", secret=True)


def _logout(command: Invocation) -> None:
    server = server_of(command.args[0] if command.args else "")
    shown = server if server != HUB else HUB
    if not Config().erase(server):
        line(f"Not logged in to {shown}")
        return
    line(f"Removing login credentials for {shown}")


LOGIN = Command(
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry",
    _login,
    (
        Flag("password", "p", "string", "Password or Personal Access Token (PAT)"),
        Flag("password-stdin", "", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
        Flag("username", "u", "string", "Username"),
    ),
    arguments=(0, 1),
)
LOGOUT = Command("[SERVER]", "Log out from a registry", _logout, arguments=(0, 1))
COMMANDS = {"login": LOGIN, "logout": LOGOUT}
