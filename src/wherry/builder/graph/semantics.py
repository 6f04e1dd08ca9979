"""What an instruction with its values may say: modes, checksums, signals, sources that are no files.

`check` is asked after variables were replaced, by the build and by `--check`, so that both refuse the same.
"""

import re
import signal

from wherry.builder.graph.remotes import is_git, is_http
from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.errors import InvalidReference
from wherry.oci import digest as digests

_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")
_SIGNALS = frozenset(one.name.removeprefix("SIG") for one in signal.Signals) | {"CLD", "IOT", "POLL"}
_REAL_TIME = re.compile(r"RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?")


def check(command: c.Command) -> None:
    """Judge an instruction.

    Raises:
        DockerfileError: with BuildKit's words, located.
    """
    message = ""
    match command:
        case c.Transfer():
            message = _chmod(command.chmod) or _sources(command)
        case c.StopSignal():
            if not _is_signal(command.signal):
                message = f"invalid signal: {command.signal}"
        case c.Run():
            message = _run(command)
    if message:
        raise DockerfileError(message, command.location)


def is_remote(source: str) -> bool:
    """Whether a source is a download or a git repository."""
    return is_http(source) or is_git(source)


def _chmod(text: str) -> str:
    if not text:
        return ""
    octal = len(text) <= 12 and not text.strip("01234567") and int(text, 8) <= 0o7777
    if octal or _SYMBOLIC.fullmatch(text):
        return ""
    return f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"


def _sources(command: c.Transfer) -> str:
    if isinstance(command, c.Add):
        if not command.checksum:
            return ""
        if len(command.sources) != 1:
            return "checksum can't be specified for multiple sources"
        if not is_remote(command.sources[0]):
            return "checksum requires HTTP(S) or Git sources"
        return "" if is_git(command.sources[0]) else _digest(command.checksum)
    for source in command.sources:
        if is_git(source):
            return "source can't be a git ref for COPY"
        if is_remote(source):
            return "source can't be a URL for COPY"
    return ""


def _digest(text: str) -> str:
    try:
        digests.parse(text)
    except InvalidReference as error:
        return error.message
    return ""


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) < 19 and int(text) != 0
    name = text.upper().removeprefix("SIG")
    return name in _SIGNALS or bool(_REAL_TIME.fullmatch(name))


def _run(command: c.Run) -> str:
    if command.files and (len(command.cmdline) != 1 or not command.shell):
        return f"parsing produced an invalid run command: [{' '.join(command.cmdline)}]"
    for mount in command.mounts:
        if mount.type == "ssh" and mount.source:
            return "ssh does not support source"
    return ""
