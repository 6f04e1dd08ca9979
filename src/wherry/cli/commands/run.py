"""`run` and `create`."""

import os

from wherry.cli.attached import attach, check_terminal, exit_status, expect_exit, follow
from wherry.cli.failure import USAGE, Failure, file_failure, start_failure, with_help
from wherry.cli.flags import Command, Invocation
from wherry.cli.healthy import wait_healthy
from wherry.cli.output import err, line
from wherry.cli.run_config import container_config
from wherry.cli.run_flags import CREATE_FLAGS, CREATE_ONLY, RUN_ONLY
from wherry.cli.terminal import parse_detach_keys, window_size
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.http import Client


def _configure(command: Invocation, name: str) -> "dict[str, Any]":
    if command["pull"] not in ("always", "missing", "never", ""):
        words = f'invalid pull option: \'{command["pull"]}\': must be one of "always", "missing" or "never"'
        raise Failure(with_help(words, name), USAGE)
    try:
        config = container_config(command.values)
    except ValueError as error:
        raise Failure(with_help(str(error), name), USAGE) from None
    if _has_settings():
        from wherry.cli import proxies

        added = proxies.variables(command.client.address.text, command["env"])
        config["Env"] = [*(config["Env"] or []), *(f"{name}={value}" for name, value in added.items())] or None
    return config


def _has_settings() -> bool:
    """Whether there is a file that may name proxies: most users have none, and nobody should wait for it."""
    return os.path.exists(
        os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    )


class _CidFile:
    """`--cidfile`: made before the container, so that two cannot have the same; gone when there is no container."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        if path:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                raise Failure(
                    f"container ID file found, make sure the other container isn't running or delete {path}"
                ) from None
            except OSError as error:
                raise Failure(f"failed to create the container ID file: {file_failure('open', path, error)}") from None

    def write(self, id_: str) -> None:
        if self._fd >= 0:
            os.write(self._fd, id_.encode())
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._path)


def _create(command: Invocation, config: "dict[str, Any]") -> str:
    """Create the container, pulling its image when the engine has none.

    Returns:
        Its id.
    """
    from wherry.cli.reference import InvalidName, with_tag

    try:
        named = with_tag(config["Image"])
    except InvalidName as error:
        raise Failure(str(error)) from None
    cidfile = _CidFile(command["cidfile"])
    try:
        client, pull = command.client, command["pull"]
        if pull == "always":
            _pull(command, config["Image"])
        config["HostConfig"]["ConsoleSize"] = list(window_size())
        query = {"name": command["name"], "platform": command["platform"]}
        try:
            answer = client.call("POST", "/containers/create", query, config)
        except ServerError as error:
            # only the image can be missing this early; a network is looked for at the start
            if error.status != 404 or pull not in ("missing", "") or not named or "image" not in error.reason.lower():
                raise
            if not command["quiet"]:
                err(f"Unable to find image '{named}' locally")
            _pull(command, config["Image"])
            answer = client.call("POST", "/containers/create", query, config)
        cidfile.write(answer["Id"])
    finally:
        cidfile.discard()
    for warning in answer.get("Warnings") or ():
        err(f"WARNING: {warning}")
    return str(answer["Id"])


def _pull(command: Invocation, image: str) -> None:
    from wherry.cli import credentials
    from wherry.cli.progress import show_progress
    from wherry.cli.reference import repository_and_tag

    repository, tag = repository_and_tag(image)
    response = command.client.request(
        "POST",
        "/images/create",
        {"fromImage": repository, "tag": tag, "platform": command["platform"]},
        headers=credentials.header(repository),
    )
    show_progress(response, 2, quiet=command["quiet"])


def _create_command(command: Invocation) -> None:
    config = _configure(command, "create")
    line(_create(command, config))


def _run(command: Invocation) -> int:
    config = _configure(command, "run")
    values, client = command.values, command.client
    # to wait until it is healthy is to start it in the background
    detach = values["detach"] or values["wait"]
    if detach:
        if values["attach"]:
            raise Failure("conflicting options: cannot specify both --attach and --detach")
        config.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    else:
        check_terminal(config["AttachStdin"], config["Tty"])
    if values["detach-keys"]:
        parse_detach_keys(values["detach-keys"])
    try:
        id_ = _create(command, config)
    except Failure as failure:
        raise start_failure(failure.message) from None
    except WherryError as error:
        raise start_failure(str(error)) from None
    forwarder = None
    if values["sig-proxy"]:
        from wherry.cli.signals import Forwarder

        forwarder = Forwarder(client, id_)
    if not (config["AttachStdin"] or config["AttachStdout"] or config["AttachStderr"]):
        line(id_)
        _start(client, id_)
        if values["wait"]:
            return wait_healthy(client, id_, values["name"] or id_[:12], values["wait-timeout"])
        return 0
    return _run_attached(command, config, id_, forwarder)


def _start(client: "Client", id_: str) -> None:
    try:
        client.call("POST", f"/containers/{quote(id_)}/start")
    except WherryError as error:
        raise start_failure(str(error)) from None


def _run_attached(command: Invocation, config: "dict[str, Any]", id_: str, forwarder: "Any") -> int:
    client, tty = command.client, config["Tty"]
    session = attach(
        client,
        id_,
        tty=tty,
        stdin=config["AttachStdin"],
        stdout=config["AttachStdout"],
        stderr=config["AttachStderr"],
        detach_keys=command["detach-keys"],
    )
    try:
        waiting = expect_exit(client, id_, removed=command["rm"])
        session.enter_terminal()
        try:
            _start(client, id_)
        except Failure:
            session.close()
            if forwarder is not None:
                forwarder.stop()
            if command["rm"]:
                exit_status(waiting)
            raise
        if forwarder is not None:
            forwarder.started()
    except BaseException:
        session.close()
        raise
    return follow(client, id_, session, waiting, tty=tty, output=config["AttachStdout"] or config["AttachStderr"])


RUN = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    _run,
    (*CREATE_FLAGS, *RUN_ONLY),
    arguments=(1, None),
    aliases=("container run", "run"),
    interspersed=False,
)
CREATE = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    _create_command,
    (*CREATE_FLAGS, *CREATE_ONLY),
    arguments=(1, None),
    aliases=("container create", "create"),
    interspersed=False,
)
COMMANDS = {"run": RUN, "container run": RUN, "create": CREATE, "container create": CREATE}
