"""`build`: sends what changed of a directory, shows what the engine does, and takes the results."""

import os
import stat

from wherry.cli import credentials, proxies
from wherry.cli.buildflags import (
    FLAGS,
    annotations,
    cache_place,
    csv,
    limits,
    outputs,
    pairs,
    refuse_attestations,
    secrets,
)
from wherry.cli.buildresults import DirectorySink, messages, sink_of
from wherry.cli.buildview import failed, view, warned
from wherry.cli.failure import Failure, file_failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, line, out, write_all
from wherry.cli.run_flags import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from contextlib import AbstractContextManager
    from typing import Any, BinaryIO

    from wherry.cli.buildcontext import Ignore
    from wherry.cli.sshagents import SshAgents
else:
    import _signal  # the half of `signal` that does not import `enum`

_REMOTE = ("http://", "https://", "git://", "ssh://", "git@")
_MAX_DOCKERFILE = 2 << 20
_MAX_IGNOREFILE = 4 << 20


def _build(command: Invocation) -> int:
    refuse_attestations(command)
    call = csv(command["call"], "name")
    if command["check"] or call.get("name") != "build":
        return _evaluate(command, {"name": "check"} if command["check"] else call)
    place = command.args[0]
    wanted = outputs(command)
    request = _request(command, wanted)
    shown = view(command["progress"] or os.environ.get("BUILDKIT_PROGRESS") or "auto", command["quiet"])
    try:
        _signal.signal(_signal.SIGINT, _interrupted)
    except ValueError:  # not the main thread
        pass
    try:
        _locate(command, place, request, shown)
        with _agents(command["ssh"]) as agents:
            request["agents"] = list(agents.paths) if agents is not None else []
            return _followed(command, request, wanted, shown, agents)
    except Interrupted:
        if os.isatty(2):
            write_all(2, b"\n")  # the terminal has shown `^C` there
        shown.cancel()
        raise Failure("ERROR: failed to build: failed to solve: Canceled: context canceled", 130) from None
    finally:
        shown.close()


class Interrupted(BaseException):
    """Ctrl-C: the engine ends the build when its client goes."""


def _interrupted(number: int, _frame: object) -> None:
    # a second one is not waited for
    _signal.signal(number, _signal.SIG_DFL)
    raise Interrupted


def _agents(words: "list[str]") -> "AbstractContextManager[SshAgents | None]":
    if not words:
        from contextlib import nullcontext

        return nullcontext()
    from wherry.cli.sshagents import SshAgents

    return SshAgents(words)


def _followed(
    command: Invocation,
    request: "dict[str, Any]",
    wanted: "list[dict[str, Any]]",
    shown: "Any",
    agents: "SshAgents | None",
) -> int:
    response = command.client.request("POST", "/wherry/v1/build", body=request, headers=_auths())
    local = [place for place in request["cache_to"] if place["type"] == "local"]
    sinks = [*(sink_of(output) for output in wanted), *(DirectorySink(place["attrs"]["dest"]) for place in local)]
    result: dict[str, Any] = {}
    failure: dict[str, Any] = {}
    debugged = False
    try:
        for message in messages(response, sinks):
            if "result" in message:
                result = message["result"]
            elif message.get("error"):
                failure = message
            elif "agent" in message:
                if agents is not None:
                    agents.serve(command.client, message["agent"]["id"], message["agent"]["connection"])
            elif "debug" in message:
                _debug(command, shown, message["debug"])
                debugged = True
            else:
                shown.take(message)
    except Interrupted:
        for sink in sinks:
            if sink is not None:
                sink.finish(ok=False)
        raise
    if not debugged:
        shown.close()
    silent = command["quiet"] or command["progress"] in ("quiet", "rawjson")
    warning = "" if silent else warned(shown.build)
    if warning:
        err(warning.rstrip("\n"))
    for sink in sinks:
        if sink is not None:
            sink.finish(ok=not failure)
    if failure:
        text = failed(shown.build, str(failure.get("vertex") or "")) + str(failure.get("excerpt") or "")
        if text and not debugged:
            err(text.rstrip("\n"))
        raise Failure(f"ERROR: failed to build: failed to solve: {failure['error']}", 1)
    _tell(command, result)
    return 0


def _evaluate(command: Invocation, call: "dict[str, str]") -> int:
    """Lint, or tell what is in the Dockerfile: nothing is sent but it and the patterns of `.dockerignore`."""
    name, form = call.get("name", ""), call.get("format", "text")
    if form not in ("text", "json"):
        raise Failure(f"unsupported format {form!r}")
    request = {**_request(command, []), "check": name == "check", "call": "" if name == "check" else name}
    _locate(command, command.args[0], request, None)
    response = command.client.request("POST", "/wherry/v1/build", body=request, headers=_auths())
    for message in messages(response, []):
        if message.get("error"):
            raise Failure(f"ERROR: {message['error']}", 1)
        if "call" in message:
            told = message["call"]
            out(told["text"] if form == "text" else _json(told["document"]))
            return 0
        if "check" in message and form == "json":
            report = message["check"]
            out(_json({key: value for key, value in report.items() if key not in ("text", "error")}))
            return int(bool(report["warnings"]))
        if "check" in message:
            return _report(message["check"])
    raise Failure("the engine broke off")


def _json(value: "Any") -> str:
    from wherry.cli.jsontext import indented
    from wherry.client.quickjson import dumps

    return indented(dumps(value).encode(), "  ") + "\n"


def _report(report: "dict[str, Any]") -> int:
    count = len(report["warnings"])
    if count:
        line(f"Check complete, {f'{count} warnings have' if count > 1 else '1 warning has'} been found!")
        out(report["text"])
    if report.get("buildError"):
        if count:
            line("")
        raise Failure(f"ERROR: {report['error']}".rstrip("\n"), 1)
    if not count:
        line("Check complete, no warnings found.")
    return int(count > 0)


def _debug(command: Invocation, shown: "Any", told: "dict[str, Any]") -> None:
    """A shell in the step that failed, as it was left; nothing of it is kept."""
    from wherry.cli.signals import follow_window
    from wherry.cli.streams import DETACHED, Session

    shown.close()
    text = failed(shown.build, str(told.get("vertex") or "")) + str(told.get("excerpt") or "")
    if text:
        err(text.rstrip("\n"))
    err("Opening a shell in the failed step; nothing of it is kept.")
    tty = os.isatty(0)
    connection, tail = command.client.hijack("/wherry/v1/build/connect", {"id": told["connection"]})
    session = Session(connection, tail, tty=tty, stdin=True, output=True)
    try:
        session.enter_terminal()
        if tty:
            session.resize = follow_window(command.client, f"/build/{told['step']}")
        if session.run() == DETACHED:
            raise Failure("read escape sequence")
    finally:
        session.close()


def _tell(command: Invocation, result: "dict[str, Any]") -> None:
    id_ = str(result.get("containerimage.config.digest") or "")
    if command["iidfile"]:
        _write(command["iidfile"], id_)
    if command["metadata-file"]:
        from wherry.cli.jsontext import indented
        from wherry.client.quickjson import dumps

        _write(command["metadata-file"], indented(dumps(result).encode()))
    if command["quiet"]:
        line(id_)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise file_failure("open", path, error) from None


def _request(command: Invocation, wanted: "list[dict[str, Any]]") -> "dict[str, Any]":
    from binascii import b2a_base64

    tags = list(command["tag"])
    return {
        "tags": tags,
        "target": command["target"],
        "build_args": {
            **proxies.variables(command.client.address.text, command["build-arg"]),
            **pairs(command["build-arg"], os.environ),
        },
        "labels": pairs(command["label"], {}),
        "annotations": annotations(command["annotation"]),
        "no_cache": command["no-cache"],
        "no_cache_filter": [name for text in command["no-cache-filter"] for name in text.split(",")],
        "pull": command["pull"],
        "platform": command["platform"],
        "network": "" if command["network"] == "default" else command["network"],
        "hosts": [
            text.replace("=", ":", 1) if ":" not in text.partition("=")[0] else text for text in command["add-host"]
        ],
        "secrets": {
            id_: b2a_base64(content, newline=False).decode() for id_, content in secrets(command["secret"]).items()
        },
        "allow": command["allow"],
        "cache_from": [cache_place(text, "src") for text in command["cache-from"]],
        "cache_to": [cache_place(text, "dest") for text in command["cache-to"]],
        "outputs": wanted,
        "squash": command["squash"],
        "limits": limits(command),
        "debug": command["debug"],
        "terminal": _terminal() if command["debug"] else [],
    }


def _terminal() -> "list[int]":
    from wherry.cli.terminal import window_size

    return list(window_size()) if os.isatty(0) else []


def _auths() -> "dict[str, str]":
    known = credentials.Config().every()
    return {"X-Registry-Config": credentials.encoded(known)} if known else {}


# -- the context


def _locate(command: Invocation, place: str, request: "dict[str, Any]", shown: "Any") -> None:
    """Find Dockerfile and context, and send them; without a view only the Dockerfile is wanted."""
    dockerfile = command["file"]
    places = (*request["cache_from"], *request["cache_to"])
    if shown is not None and any(wanted["type"] == "local" for wanted in places):
        from wherry.cli.buildcaches import prepare

        def send(source: str, ignore: "Ignore") -> str:
            return _send(command, source, ignore, shown, f"importing cache from {source}")

        prepare(request, send)
    for text in command["build-context"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"invalid context value: {text}, expected key=value")
        if os.path.isdir(value) and shown is not None:
            value = "sent:" + _send(command, value, None, shown, f"[context {name}] load from client")
        request.setdefault("contexts", {})[name] = value
    if place == "-":
        if dockerfile == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        _from_stdin(command, dockerfile, request)
        return
    if place.startswith(_REMOTE):
        request["remote"], request["path"] = place, dockerfile or "Dockerfile"
        if dockerfile == "-":
            request["dockerfile"], request["path"] = _text(0, "stdin"), "Dockerfile"
        return
    if not os.path.isdir(place):
        raise Failure(f'unable to prepare context: path "{place}" not found', 1)
    if dockerfile == "-":
        request["dockerfile"], request["path"] = _text(0, "stdin"), "Dockerfile"
        ignore = _ignore(place, "")
    else:
        path = dockerfile or os.path.join(place, "Dockerfile")
        if not dockerfile and not os.path.exists(path) and os.path.exists(os.path.join(place, "dockerfile")):
            path = os.path.join(place, "dockerfile")
        request["dockerfile"], request["path"] = _read(path), os.path.basename(path)
        ignore = _ignore(place, path)
    request["ignore"] = ignore
    if shown is not None:
        request["context"] = _send(command, place, _matching(ignore), shown, "[internal] load build context")


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise Failure(
                f"ERROR: failed to build: failed to solve: failed to read dockerfile: open {os.path.basename(path)}: "
                "no such file or directory",
                1,
            ) from None
        raise file_failure("open", path, error) from None
    try:
        return _text(fd, path)
    finally:
        os.close(fd)


def _text(fd: int, shown: str) -> str:
    pieces, size = [], 0
    while piece := os.read(fd, 1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_DOCKERFILE:
            raise Failure(f"{shown} is larger than a Dockerfile may be")
    return b"".join(pieces).decode("utf-8", "replace")


def _ignore(place: str, dockerfile: str) -> "list[str]":
    """The patterns of `.dockerignore`; the Dockerfile may have one of its own."""
    candidates = [f"{dockerfile}.dockerignore"] if dockerfile else []
    for path in (*candidates, os.path.join(place, ".dockerignore")):
        try:
            # a stranger's checkout may have a FIFO there, or a link to a device
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise file_failure("open", path, error) from None
        with _regular(fd, path) as file:
            data = file.read(_MAX_IGNOREFILE + 1)
        if len(data) > _MAX_IGNOREFILE:
            raise Failure(f"{path} is larger than {_MAX_IGNOREFILE >> 20} MiB")
        from wherry.builder.language.ignorefile import read_ignorefile

        return read_ignorefile(data)
    return []


def _regular(fd: int, path: str) -> "BinaryIO":
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(f"{path} is not a regular file")
    return os.fdopen(fd, "rb")


def _matching(patterns: "list[str]") -> "Ignore":
    if not patterns:
        return None
    from wherry.builder.language.ignorefile import Matcher

    matcher = Matcher(patterns)
    return matcher.matches, matcher.may_contain


def _send(
    command: Invocation,
    place: str,
    ignore: "Ignore",
    shown: "Any",
    name: str,
) -> str:
    from wherry.cli.buildcontext import Directory
    from wherry.values import sizes

    directory = Directory(place, ignore)
    vertex = {"digest": f"client:{name}", "name": name, "started": _now()}
    shown.take({"vertexes": [vertex]})
    from binascii import b2a_base64

    sent = 0

    def told(done: int, _total: int) -> None:

        nonlocal sent
        sent = done

    id_ = directory.send(command.client, told)
    log = b2a_base64(f"transferring context: {sizes.human(sent)}\n".encode(), newline=False).decode()
    now = _now()
    shown.take({"logs": [{"vertex": vertex["digest"], "stream": 1, "data": log, "timestamp": now}]})
    shown.take({"vertexes": [{**vertex, "completed": now}]})
    return id_


def _now() -> str:
    import time

    from wherry.values import times

    return times.exact(time.time_ns())


def _from_stdin(command: Invocation, dockerfile: str, request: "dict[str, Any]") -> None:
    """Standard input is a Dockerfile alone, or an archive."""
    import tempfile

    if os.isatty(0):
        raise Failure("unable to prepare context: stdin is a terminal: a Dockerfile or an archive is expected", 1)
    with tempfile.TemporaryFile() as spool:
        while piece := os.read(0, 1 << 20):
            spool.write(piece)
        spool.flush()
        # by descriptor: what is uploaded begins where the descriptor stands
        head = os.pread(spool.fileno(), 512, 0)
        os.lseek(spool.fileno(), 0, os.SEEK_SET)
        archive = head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        if not archive:
            request["dockerfile"] = os.pread(spool.fileno(), _MAX_DOCKERFILE, 0).decode("utf-8", "replace")
            request["path"] = "Dockerfile"
            return
        response = command.client.request(
            "POST", "/wherry/v1/build/archive", upload=spool.fileno(), headers={"Content-Type": "application/x-tar"}
        )
        request["context"] = response.json()["id"]
        request["path"] = dockerfile or "Dockerfile"


BUILD = Command(
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    _build,
    FLAGS,
    arguments=(1, 1),
    aliases=("image build", "build", "builder build"),
)


def _prune(command: Invocation) -> None:
    if not command["force"]:
        kind = "all build cache" if command["all"] else "all dangling build cache"
        from wherry.cli.prompt import ask

        question = f"WARNING! This will remove {kind}. Are you sure you want to continue? [y/N] "
        if ask(question).lower() not in ("y", "yes"):
            return
    query = {"all": command["all"], "filters": command.values.filters(), **_kept(command)}
    report = command.client.call("POST", "/build/prune", query)
    from wherry.values import sizes

    ids = report.get("CachesDeleted") or []
    if ids:
        line("Deleted build cache objects:")
        for id_ in ids:
            line(id_)
        line("")
    line(f"Total reclaimed space: {sizes.human(report.get('SpaceReclaimed') or 0)}")


def _kept(command: Invocation) -> "dict[str, Any]":
    names = ("keep-storage", "reserved-space", "max-used-space", "min-free-space")
    return {name: command[name] for name in names if command[name]}


PRUNE = Command(
    "",
    "Remove build cache",
    _prune,
    (
        Flag("all", "a", "bool", "Remove all unused build cache, not just dangling ones"),
        Flag("filter", "", "filter", 'Provide filter values (e.g. "until=24h")'),
        Flag("force", "f", "bool", "Do not prompt for confirmation"),
        Flag("keep-storage", "", "bytes", "Amount of disk space to keep for cache", check=size_of),
        Flag("max-used-space", "", "bytes", "Maximum amount of disk space allowed to keep for cache", check=size_of),
        Flag("min-free-space", "", "bytes", "Target amount of free disk space after pruning", check=size_of),
        Flag("reserved-space", "", "bytes", "Amount of disk space always allowed to keep for cache", check=size_of),
    ),
)
COMMANDS = {"build": BUILD, "image build": BUILD, "builder build": BUILD, "builder prune": PRUNE}
