"""`wherry-runtime`: an OCI runtime with runc's command line, for dockerd, containerd and podman.

    wherry-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND …

Exit codes: 0; 1 for an error (255 for a failed exec); a foreground `run` or `exec` gives its program's.
"""

import gc
import os
import sys

from wherry.errors import InvalidArgument, WherryError
from wherry.runtime import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from wherry.runtime.arguments import Arguments

DEFAULT_ROOT = "/run/wherry-runtime"
_ENTERING = frozenset({"create", "run", "exec"})
_SEALED = "WHERRY_RUNTIME_SEALED"


def main() -> "NoReturn":
    """Run the command in `sys.argv` and exit."""
    gc.disable()  # what lives for 50 ms makes no garbage worth looking for
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1  # the reader went away
    os._exit(code)


def run(argv: "list[str]") -> int:
    """Run one command; returns the exit code."""
    args: Arguments | None = None
    try:
        args = arguments.read(argv)
        if args.command in ("help", "version"):
            return _help(args)
        if args.command in _ENTERING:
            _seal()
            if os.geteuid() == 0:
                from wherry.linux.rooted import become_root

                become_root()
        return _verb(args.command)(args, args.text("root", DEFAULT_ROOT))
    except WherryError as error:
        return _failed(args, argv, error)
    except OSError as error:
        return _failed(args, argv, WherryError(f"{error.strerror}: {error.filename}" if error.filename else str(error)))


def _seal() -> None:
    """Go on in a copy of the interpreter that a container cannot write to."""
    if os.environ.pop(_SEALED, ""):
        return
    # what the second start would load again is not loaded before it
    from wherry.linux.interpreter import execute_sealed, is_sealed, sealed_interpreter

    if is_sealed():
        return
    execute_sealed(sealed_interpreter(), [sys.executable, *sys.orig_argv[1:]], {**os.environ, _SEALED: "1"})


def _verb(command: str) -> "Callable[[Arguments, str], int]":
    if command in _ENTERING:
        from wherry.runtime import cli_processes

        return cli_processes.VERBS[command]
    from wherry.runtime import cli_containers

    return cli_containers.VERBS[command]


def _failed(args: "Arguments | None", argv: "list[str]", error: WherryError) -> int:
    """Tell an error on stderr and in the log file; shims read the last line of the latter."""
    import json
    import time

    from wherry.values import times

    message = str(error)
    command = args.command if args else ""
    if command in _ENTERING and not isinstance(error, InvalidArgument):
        message = f"wherry-runtime {command} failed: unable to start container process: {message}"
    log, form = _log_target(args, argv)
    now = times.whole(time.time())
    text = f'time="{now}" level=error msg={json.dumps(message, ensure_ascii=False)}\n'
    if log:
        line = text
        if form == "json":
            line = json.dumps({"level": "error", "msg": message, "time": now}) + "\n"
        try:
            with open(log, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line)
        except OSError as failure:
            os.write(2, os.fsencode(f"cannot write the log file: {failure}\n"))
    os.write(2, os.fsencode(text))
    return 255 if command == "exec" else 1


def _log_target(args: "Arguments | None", argv: "list[str]") -> "tuple[str, str]":
    if args is not None:
        return args.text("log"), args.text("log_format", "text")
    # the command line itself was wrong: what it says of the log may still be read
    found = {"--log": "", "--log-format": "text"}
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in found:
            found[name] = value if equals else (argv[index + 1] if index + 1 < len(argv) else "")
    return found["--log"], found["--log-format"]


def _help(args: "Arguments") -> int:
    if args.command == "version":
        import wherry
        from wherry.runtime.state import OCI_VERSION

        sys.stdout.write(f"wherry-runtime version {wherry.__version__}\nspec: {OCI_VERSION}\n")
        return 0
    topic = args.words[0] if args.words else ""
    if topic in arguments.COMMANDS:
        flags = " ".join(f"[{flag}]" for flag in arguments.COMMANDS[topic])
        sys.stdout.write(f"USAGE:\n   wherry-runtime {topic} {flags} <arguments>\n")
        return 0
    sys.stdout.write(
        "USAGE:\n   wherry-runtime [global options] command [command options] [arguments...]\n\nCOMMANDS:\n"
        + "".join(f"   {name}\n" for name in sorted(arguments.COMMANDS))
        + "\nGLOBAL OPTIONS:\n"
        + "".join(f"   {flag}\n" for flag in arguments.GLOBAL if flag.startswith("--"))
    )
    return 0
