"""Running one row against both engines, and saying what differs."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.compat import pins
from tests.compat.deaf import Deaf
from tests.compat.engines import Engine
from tests.compat.pins import Difference
from tests.compat.row import Row

_DURATION = r"(Less than a second|About an? \w+|\d+ (second|minute|hour|day|week|month|year)s?)"
_PORT = r"(3[2-9]|[45]\d|6[0-5])\d{3}"
# what differs between any two runs
_VARYING = (
    # what the docker command logs of an upload depends on when the answer comes
    (r"""(?m)^time="[^"]*" level=error msg="Can't (add file|close tar writer).*\n""", ""),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})? UTC", "<time>"),
    # durations where they stand: `Up 2 seconds`, `Exited (0) 2 seconds ago`, a column of `docker images`
    (rf"{_DURATION} ago\b", "<ago>"),
    (rf"\bUp {_DURATION}", "Up <for>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    # addresses that the engine chose: dockerd's bridge here, and the pools; what a row chose stays (10.x, 192.0.2.x)
    (r"\b(172\.(1[6-9]|2\d|3[01])|10\.209|192\.168)\.\d+\.\d+\b", "<address>"),
    (r"0x[0-9a-f]{6,}", "<pointer>"),
    # which of the host's servers did not know a name
    (r" on \S+:53: no such host", ": no such host"),
    # ports that the engine chose, where they stand: behind an address, and as a HostPort
    (rf"(?<=[\d\]:]:){_PORT}\b", "<port>"),
    (rf"""("HostPort": ?)"{_PORT}\"""", r'\1"<port>"'),
    (rf"(?<=0\.0\.0\.0 ){_PORT}\b|(?<=127\.0\.0\.1 ){_PORT}\b|(?<=:: ){_PORT}\b", "<port>"),
    (r"[ \t]+", " "),
    # names of Go's types, which change with dockerd's version; and of a program that takes no part here
    (
        r"(array|number|string|object)( [\d.]+(e\d+)?)? into Go (value|struct field \S+) of type [\w.\[\]]+",
        "<type> into <Go type>",
    ),
    (r"runc create failed: ", ""),
)


# the dockerd whose words are ours; of an older one only codes, output and shapes are compared
REFERENCE = (26, 0)
NOT_RUN = -1
_MESSAGE = re.compile(r'\{"message":".*"\}\Z', re.DOTALL)


class Result(NamedTuple):
    """What a row gave: exit code or status, then texts."""

    code: int
    out: str
    err: str


class Verdict(NamedTuple):
    """A compared row.

    Attributes:
        differences: what differs, by part; empty where both do the same.
        difference: the same for a person; None where both do the same.
        older: not the dockerd that the table is about.
        fails: dockerd, or the docker command, refuses what the row asks.
        codes: exit codes (or statuses) are not the same.
        status: dockerd calls it a failure of its own (500); the status here, which is not one of the engine's.
        deaf: an engine that refuses everything agrees with dockerd: the row cannot fail.
        unasked: the docker command answers without asking any engine.
    """

    row: Row
    differences: Difference
    difference: str | None
    older: bool = False
    fails: bool = False
    codes: bool = False
    status: int = 0
    deaf: bool = False
    unasked: bool = False

    def wrong(self, pinned: pins.Pins) -> str:
        """Why the row is not as the table says; empty where it is.

        It is the same, or it differs where a deviation is declared, in the way that is pinned.
        """
        if self.older:
            return "" if self.row.deviation else self.difference or ""
        title = self.row.title
        if self.deaf and not self.unasked:
            return "    cannot fail: an engine that refuses everything agrees with dockerd"
        if self.row.deviation:
            if self.difference is None:
                return f"    the same, though declared different: {self.row.deviation}"
            if title not in pinned.differences:
                return f"{self.difference}\n    declared, and not pinned"
            if pinned.differences[title] != self.differences:
                return f"{self.difference}\n    pinned: {pinned.differences[title]}"
            return ""
        if self.difference is not None:
            return self.difference
        if self.status != pinned.statuses.get(title, 0):
            return f"    status here where dockerd answers 500: {self.status}, pinned: {pinned.statuses.get(title, 0)}"
        return ""


def run(row: Row, docker: Engine, wherryd: Engine, pool: ThreadPoolExecutor, deaf: Deaf | None = None) -> Verdict:
    """Run a row on both (and on one that refuses everything), tidy up, and compare."""
    before = deaf.asked if deaf is not None else 0
    engines = (docker, wherryd) if deaf is None else (docker, wherryd, deaf)
    expected, found, *refused = pool.map(lambda engine: _result(row, engine), engines)
    asked = deaf is not None and deaf.asked != before
    return judge(row, expected, found, refused[0] if refused else None, asked=asked, older=docker.version < REFERENCE)


def judge(
    row: Row, expected: Result, found: Result, refused: Result | None, *, asked: bool = True, older: bool = False
) -> Verdict:
    """Compare the results of a row.

    Args:
        row: what was asked.
        expected: dockerd's.
        found: wherryd's.
        refused: of the engine that refuses everything.
        asked: whether that one was asked anything.
        older: the dockerd is not the one that the table is about.
    """
    agrees = refused is not None and not [
        part for part, want, got in _parts(expected, refused) if want != got and part not in row.ignore
    ]
    status = 0
    if row.request is not None and expected.code == 500 and (400 <= found.code < 500 or found.code == 503):
        # everywhere here: what the caller got wrong, or a registry that is away, is not called a failure of the engine
        expected, status = expected._replace(code=found.code), found.code
    ignored = (*row.ignore, "stderr") if older and row.request is None else row.ignore
    if older:
        expected, found = (result._replace(out=_MESSAGE.sub("<message>", result.out)) for result in (expected, found))
    told, differences = [], {}
    for part, want, got in _parts(expected, found):
        if want != got and part not in ignored:
            told.append(_told(part, want, got))
            differences.update(pins.difference(part, want, got))
    fails = expected.code >= (1 if row.request is None else 400)
    codes = expected.code != found.code and "code" not in ignored
    if expected.code == NOT_RUN:
        told.append(f"    not run: {expected.err}")
        differences["err"] = [expected.err, found.err]
    return Verdict(row, differences, "\n".join(told) or None, older, fails, codes, status, agrees, agrees and not asked)


def _parts(one: Result, other: Result) -> Iterator[tuple[str, int | str, int | str]]:
    yield from zip(("code", "stdout", "stderr"), one, other, strict=True)


def _told(part: str, want: object, got: object) -> str:
    """A difference for a person; of long texts only the lines that differ."""
    if isinstance(want, str) and isinstance(got, str) and want.count("\n") + got.count("\n") > 6:
        ours, theirs = got.splitlines(), want.splitlines()
        want = [line for line in theirs if line not in ours]
        got = [line for line in ours if line not in theirs]
    return f"    {part:<6} docker: {want!r}\n{'':11}wherry: {got!r}"


def _result(row: Row, engine: Engine) -> Result:
    try:
        if row.setup and not engine.deaf:
            code, _, err = engine.shell(row.setup)
            if code:
                return Result(NOT_RUN, "", f"setup failed: {err.decode(errors='replace')}")
        if row.request is not None:
            method, path, body, headers = row.request
            version = engine.env["DOCKER_API_VERSION"]
            status, answer, kind = engine.call(method, path.replace("/v/", f"/v{version}/", 1), body, headers)
            return Result(status, _text(row, engine, answer), kind)
        code, out, err = engine.shell(row.line)
        return Result(code, _text(row, engine, out), _normal(row, engine, err.decode(errors="replace")))
    except OSError as error:
        return Result(NOT_RUN, "", f"{type(error).__name__}: {error}")
    finally:
        if not row.reads:
            engine.tidy()


def _text(row: Row, engine: Engine, data: bytes) -> str:
    text = data.decode(errors="replace")
    if row.shape:
        try:
            return "\n".join(sorted(shape([json.loads(line) for line in _documents(text)], row.skip)))
        except ValueError:
            pass
    return _normal(row, engine, text)


def _documents(text: str) -> list[str]:
    """The whole as one document, or one document a line."""
    try:
        json.loads(text)
    except ValueError:
        return [line for line in text.splitlines() if line.strip()]
    return [text]


def _normal(row: Row, engine: Engine, text: str) -> str:
    text = text.replace(str(engine.directory), "<dir>").replace(engine.socket, "<socket>")
    for pattern, word in (*row.normalise, *_VARYING):
        text = re.sub(pattern, word, text)
    return text.replace("\r\n", "\n").strip("\n")


# null, or a list: of an exec that has just ended dockerd knows a while longer
_PASSING = {"ExecIDs"}
# keys of API 1.48 that dockerd 28 shows to older clients, too; dockerd 26 does not have them
_NEWER = {"GwPriority"}


def shape(value: Any, skip: tuple[str, ...] = (), path: str = "") -> set[str]:
    """Keys and types of JSON: `.State.Pid number`, `.Args[] string`; `skip` names paths that are left out."""
    if path in skip:
        return set()
    if isinstance(value, dict):
        found = {f"{path} object"}
        for key, item in value.items():
            if key in _NEWER:
                continue
            if key in _PASSING:
                found.add(f"{path}.{key}")
                continue
            found |= shape(item, skip, f"{path}.{'<id>' if len(key) in (64, 71) else key}")
        return found
    if isinstance(value, list):
        found = {f"{path} list"}
        for item in value:
            found |= shape(item, skip, f"{path}[]")
        return found
    kind = "null" if value is None else {bool: "bool", str: "string"}.get(type(value), "number")
    return {f"{path} {kind}"}
