"""runc's command line, read by hand: argparse costs a third of a container's start."""

from wherry.errors import InvalidArgument, NotSupported

GLOBAL: "dict[str, tuple[str, str]]" = {
    "--root": ("root", "str"),
    "--log": ("log", "str"),
    "--log-format": ("log_format", "str"),
    "--debug": ("debug", "bool"),
    "--systemd-cgroup": ("systemd_cgroup", "bool"),
    "--rootless": ("rootless", "str"),
    "--criu": ("criu", "str"),
    "--help": ("help", "bool"),
    "-h": ("help", "bool"),
    "--version": ("version", "bool"),
    "-v": ("version", "bool"),
}
_BUNDLE = {"--bundle": ("bundle", "str"), "-b": ("bundle", "str")}
_CREATE = {
    **_BUNDLE,
    "--console-socket": ("console_socket", "str"),
    "--pid-file": ("pid_file", "str"),
    "--no-pivot": ("no_pivot", "bool"),
    "--no-new-keyring": ("no_new_keyring", "bool"),
    "--preserve-fds": ("preserve_fds", "int"),
}
_DETACH = {"--detach": ("detach", "bool"), "-d": ("detach", "bool")}
_FORMAT = {"--format": ("format", "str"), "-f": ("format", "str")}
COMMANDS: "dict[str, dict[str, tuple[str, str]]]" = {
    "spec": {**_BUNDLE, "--rootless": ("rootless", "bool")},
    "create": _CREATE,
    "run": {
        **_CREATE,
        **_DETACH,
        "--keep": ("keep", "bool"),
        "--no-subreaper": ("no_subreaper", "bool"),
    },
    "start": {},
    "exec": {
        **_DETACH,
        "--console-socket": ("console_socket", "str"),
        "--cwd": ("cwd", "str"),
        "--env": ("env", "list"),
        "-e": ("env", "list"),
        "--tty": ("tty", "bool"),
        "-t": ("tty", "bool"),
        "--user": ("user", "str"),
        "-u": ("user", "str"),
        "--additional-gids": ("additional_gids", "list"),
        "-g": ("additional_gids", "list"),
        "--process": ("process", "str"),
        "-p": ("process", "str"),
        "--pid-file": ("pid_file", "str"),
        "--process-label": ("process_label", "str"),
        "--apparmor": ("apparmor", "str"),
        "--no-new-privs": ("no_new_privs", "bool"),
        "--cap": ("cap", "list"),
        "-c": ("cap", "list"),
        "--preserve-fds": ("preserve_fds", "int"),
        "--cgroup": ("cgroup", "str"),
        "--ignore-paused": ("ignore_paused", "bool"),
    },
    "state": {},
    "kill": {"--all": ("all", "bool"), "-a": ("all", "bool")},
    "delete": {"--force": ("force", "bool"), "-f": ("force", "bool")},
    "list": {**_FORMAT, "--quiet": ("quiet", "bool"), "-q": ("quiet", "bool")},
    "ps": _FORMAT,
    "pause": {},
    "resume": {},
    "update": {
        "--resources": ("resources", "str"),
        "-r": ("resources", "str"),
        "--memory": ("memory", "int"),
        "--memory-reservation": ("memory_reservation", "int"),
        "--memory-swap": ("memory_swap", "int"),
        "--cpu-period": ("cpu_period", "int"),
        "--cpu-quota": ("cpu_quota", "int"),
        "--cpu-share": ("cpu_share", "int"),
        "--cpuset-cpus": ("cpuset_cpus", "str"),
        "--cpuset-mems": ("cpuset_mems", "str"),
        "--pids-limit": ("pids_limit", "int"),
        "--blkio-weight": ("blkio_weight", "int"),
    },
    "features": {},
}
# positional words: (least, most); None: any number
WORDS: "dict[str, tuple[int, int | None]]" = {
    "spec": (0, 0),
    "create": (1, 1),
    "run": (1, 1),
    "start": (1, 1),
    "exec": (1, None),
    "state": (1, 1),
    "kill": (1, 2),
    "delete": (1, 1),
    "list": (0, 0),
    "ps": (1, None),
    "pause": (1, 1),
    "resume": (1, 1),
    "update": (1, 1),
    "features": (0, 0),
}


class Arguments:
    """Read words. A flag that was not given is False, "", None (a number) or ()."""

    __slots__ = ("_values", "command", "words")

    def __init__(self, command: str, values: "dict[str, bool | str | int | list[str]]", words: "list[str]") -> None:
        self.command = command
        self.words = words
        self._values = values

    def has(self, name: str) -> bool:
        return bool(self._values.get(name))

    def text(self, name: str, default: str = "") -> str:
        found = self._values.get(name)
        return found if isinstance(found, str) and found else default

    def number(self, name: str) -> int | None:
        found = self._values.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def texts(self, name: str) -> "list[str]":
        found = self._values.get(name)
        return found if isinstance(found, list) else []


def read(argv: "list[str]") -> Arguments:
    """Read a command line without the program's name.

    Raises:
        InvalidArgument: an unknown command or flag, or a wrong number of words.
        NotSupported: `--systemd-cgroup`, checkpoint and restore.
    """
    values: dict[str, bool | str | int | list[str]] = {}
    rest = _flags(argv, GLOBAL, values)
    if values.get("systemd_cgroup"):
        raise NotSupported("--systemd-cgroup is not supported: use the cgroupfs driver")
    if not rest or values.get("help") or values.get("version"):
        return Arguments("version" if values.get("version") else "help", values, rest)
    command = rest[0]
    if command == "help":
        return Arguments("help", values, rest[1:])
    if command in ("checkpoint", "restore", "events"):
        raise NotSupported(f"{command} is not supported")
    if command not in COMMANDS:
        raise InvalidArgument(f'unknown command "{command}"')
    words = _flags(rest[1:], {**COMMANDS[command], "--help": ("help", "bool"), "-h": ("help", "bool")}, values)
    if values.get("help"):
        return Arguments("help", values, [command])
    least, most = WORDS[command]
    if len(words) < least or (most is not None and len(words) > most):
        raise InvalidArgument(f'"{command}" requires {_count(least, most)} argument(s), got {len(words)}')
    return Arguments(command, values, words)


def _flags(
    argv: "list[str]", known: "dict[str, tuple[str, str]]", values: "dict[str, bool | str | int | list[str]]"
) -> "list[str]":
    """Take flags off the front; what follows the first other word is not looked at."""
    index = 0
    while index < len(argv):
        word = argv[index]
        if word == "--":
            return argv[index + 1 :]
        if not word.startswith("-") or word == "-":
            break
        name, equals, given = word.partition("=")
        if name.startswith("-") and not name.startswith("--") and len(name) > 2:
            name = "-" + name  # runc takes -flag for --flag
        if name not in known:
            raise InvalidArgument(f"flag provided but not defined: {name}")
        field, kind = known[name]
        index += 1
        if kind == "bool":
            if equals and given not in ("true", "false"):
                raise InvalidArgument(f"{name} is true or false: {given!r}")
            values[field] = given != "false"
            continue
        if not equals:
            if index == len(argv):
                raise InvalidArgument(f"flag needs an argument: {name}")
            given = argv[index]
            index += 1
        _store(values, field, kind, name, given)
    return argv[index:]


def _store(values: "dict[str, bool | str | int | list[str]]", field: str, kind: str, name: str, given: str) -> None:
    if kind == "int":
        try:
            values[field] = int(given)
        except ValueError:
            raise InvalidArgument(f"{name} takes a number: {given!r}") from None
    elif kind == "list":
        found = values.setdefault(field, [])
        if isinstance(found, list):
            found.append(given)
    else:
        values[field] = given


def _count(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"exactly {least}" if least == most else f"{least} to {most}"
