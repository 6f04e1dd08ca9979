"""`wherry`: global flags, then a command of `table`, whose module is imported only now."""

import os

from wherry.cli.failure import Failure
from wherry.cli.flags import Flag, HelpRequested, Invocation, flag_failure, parse
from wherry.cli.output import err, line
from wherry.cli.table import COMMANDS, GROUPS, HIDDEN, SYNONYMS, TOP
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from wherry.cli.flags import Command
else:
    import _signal  # the half of `signal` that does not import `enum`

GLOBAL_FLAGS = (
    Flag("debug", "D", "bool", "Enable debug mode"),
    Flag("host", "H", "list", "Daemon socket to connect to"),
    Flag(
        "log-level",
        "l",
        "string",
        'Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")',
        "info",
    ),
    Flag("tls", "", "bool", "Use TLS; implied by --tlsverify"),
    Flag("tlscacert", "", "string", 'Trust certs signed only by this CA (default "~/.docker/ca.pem")'),
    Flag("tlscert", "", "string", 'Path to TLS certificate file (default "~/.docker/cert.pem")'),
    Flag("tlskey", "", "string", 'Path to TLS key file (default "~/.docker/key.pem")'),
    Flag("tlsverify", "", "bool", "Use TLS and verify the remote"),
    Flag("version", "v", "bool", "Print version information and quit"),
)
_USAGE = "wherry [OPTIONS] COMMAND [ARG...]"


def main(argv: "Sequence[str]") -> int:
    """Run one command line.

    Args:
        argv: the words behind the program's name.

    Returns:
        The exit status.
    """
    try:
        # what reads our output may go away: end as every filter does
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        _signal.signal(_signal.SIGINT, _ended_by_signal)
        _signal.signal(_signal.SIGTERM, _ended_by_signal)
    except ValueError:  # not the main thread: a program that calls us keeps its own
        return _main(argv)
    return _main(argv)


def _ended_by_signal(number: int, _frame: object) -> None:
    os._exit(128 + number)


def _main(argv: "Sequence[str]") -> int:
    try:
        return _dispatch(argv)
    except Failure as failure:
        if failure.message:
            err(failure.message)
        return failure.status
    except WherryError as error:
        err(str(error))
        return 1
    except OSError as error:
        # what has no file's name happened to our output
        err(f"{error.filename or 'write /dev/stdout'}: {os.strerror(error.errno or 0).lower()}")
        return 1


def _dispatch(argv: "Sequence[str]") -> int:
    try:
        options = parse(GLOBAL_FLAGS, argv, interspersed=False)
    except HelpRequested:
        return _help_root()
    except ValueError as error:
        raise flag_failure(str(error), "wherry", _USAGE) from None
    words = options.args
    if options["version"]:
        from wherry import __version__

        line(f"Wherry version {__version__}")
        return 0
    if not words:
        return _help_root()
    hosts = options["host"]
    if len(hosts) > 1:
        raise Failure("Failed to initialize: unable to resolve wherry endpoint: Specify only one -H")
    if words[0] == "help":
        return _help_topic(words[1:])
    found = _find(words, hosts[0] if hosts else "")
    if isinstance(found, str):
        return _group(found, words[1:])
    path, name, module, rest = found
    command = load(module, name)
    tls = {name: options[name] for name in options.changed if name.startswith("tls")}
    try:
        values = command.parse(path, rest)
    except HelpRequested:
        return _help_command(path, command)
    return command.run(Invocation(path, values, hosts[0] if hosts else None, tls)) or 0


def load(module: str, name: str) -> "Command":
    """Import a command's module and take the command out of it."""
    commands: dict[str, Command] = __import__(f"wherry.cli.commands.{module}", fromlist=["COMMANDS"]).COMMANDS
    return commands[name]


_PLUGIN = "is a plugin of the docker command: DOCKER_HOST={host} docker"
# commands of Docker that people will try, and what they are told
ABSENT = {
    **{name: f"{_PLUGIN} {name}" for name in ("buildx", "compose")},
    **dict.fromkeys("config node secret service stack swarm".split(), "is not supported: there is no swarm"),
    "plugin": "is not supported: there are no plugins",
    "context": "is not supported: WHERRY_HOST or -H choose the engine",
}


def _find(words: "Sequence[str]", host: str = "") -> "tuple[str, str, str, Sequence[str]] | str":
    """(path, name in its module, module, remaining words), or the name of a group."""
    name = words[0]
    entry = TOP.get(name) or COMMANDS.get(name)
    if entry:
        return f"wherry {name}", name, entry[0], words[1:]
    if name not in GROUPS:
        if name in ABSENT:
            from wherry.client.address import chosen_text

            raise Failure(f"wherry: 'wherry {name}' {ABSENT[name].format(host=host or chosen_text())}")
        raise Failure(f"wherry: unknown command: wherry {name}\n\nRun 'wherry --help' for more information")
    if len(words) < 2 or words[1].startswith("-"):
        return name
    sub = SYNONYMS.get(name, {}).get(words[1], words[1])
    commands = GROUPS[name][1]
    entry = commands.get(sub) or HIDDEN.get(f"{name} {sub}")
    if not entry:
        raise Failure(
            f"wherry: unknown command: wherry {name} {words[1]}\n\nUsage:  wherry {name}\n\n"
            f"Run 'wherry {name} --help' for more information"
        )
    return f"wherry {name} {sub}", f"{name} {sub}", entry[0], words[2:]


def _group(name: str, words: "Sequence[str]") -> int:
    try:
        parse((), words)
    except HelpRequested:
        line(_group_text(name))
        return 0
    except ValueError as error:
        raise flag_failure(str(error), f"wherry {name}", f"wherry {name} COMMAND") from None
    # nothing was asked of the group: that is no output of a command
    err(_group_text(name))
    return 0


def _group_text(name: str) -> str:
    from wherry.cli.help import group_help

    return group_help(name)


def _help_root() -> int:
    from wherry.cli.help import root_help

    line(root_help(GLOBAL_FLAGS))
    return 0


def _help_command(path: str, command: "Command") -> int:
    from wherry.cli.help import command_help

    line(command_help(path, command))
    return 0


def _help_topic(words: "Sequence[str]") -> int:
    if not words:
        return _help_root()
    try:
        found = _find(words)
    except Failure:
        raise Failure(f"unknown help topic: {' '.join(words)}") from None
    if isinstance(found, str):
        line(_group_text(found))
        return 0
    path, name, module, rest = found
    if rest:
        raise Failure(f"unknown help topic: {' '.join(words)}")
    return _help_command(path, load(module, name))
