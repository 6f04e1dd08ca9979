"""Running one row against both engines, and saying what differs."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.compat.engines import Engine
from tests.compat.row import Row

# what differs between any two runs
_VARYING = (
    # what the docker command logs of an upload depends on when the answer comes
    (r"""(?m)^time="[^"]*" level=error msg="Can't (add file|close tar writer).*\n""", ""),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})? UTC", "<time>"),
    (r"(Less than a second|About an? \w+|\d+ (second|minute|hour|day|week|month|year)s?)( ago)?", "<ago>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"\b(172\.\d+|10\.\d+|192\.168)\.\d+\.\d+\b", "<address>"),
    (r"0x[0-9a-f]{6,}", "<pointer>"),
    # which of the host's servers did not know a name
    (r" on \S+:53: no such host", ": no such host"),
    (r"\b(3[2-9]|[45]\d|6[0-5])\d{3}\b", "<port>"),
    (r"[ \t]+", " "),
    # names of Go's types, which change with dockerd's version; and of a program that takes no part here
    (
        r"(array|number|string|object)( [\d.]+)? into Go (value|struct field \S+) of type [\w.\[\]]+",
        "<type> into <Go type>",
    ),
    (r"runc create failed: ", ""),
)


# the dockerd whose words are ours; of an older one only codes, output and shapes are compared
REFERENCE = (26, 0)
_MESSAGE = re.compile(r'\{"message":".*"\}\Z', re.DOTALL)


class Result(NamedTuple):
    """What a row gave: exit code or status, then texts."""

    code: int
    out: str
    err: str


class Verdict(NamedTuple):
    """A compared row.

    Attributes:
        difference: None where both do the same.
        older: not the dockerd that the table is about.
        fails: dockerd, or the docker command, refuses what the row asks.
        codes: exit codes (or statuses) are not the same.
    """

    row: Row
    difference: str | None
    older: bool = False
    fails: bool = False
    codes: bool = False

    @property
    def ok(self) -> bool:
        """Whether the row is as the table says: the same, or different where a deviation is declared."""
        if self.older and self.row.deviation:
            return True
        return (self.difference is None) == (not self.row.deviation)


def run(row: Row, docker: Engine, wherryd: Engine, pool: ThreadPoolExecutor) -> Verdict:
    """Run a row on both, tidy up, and compare."""
    expected, found = pool.map(lambda engine: _result(row, engine), (docker, wherryd))
    if row.request is not None and expected.code == 500 and (400 <= found.code < 500 or found.code == 503):
        # everywhere here: what the caller got wrong, or a registry that is away, is not called a failure of the engine
        expected = expected._replace(code=found.code)
    older = docker.version < REFERENCE
    ignored = (*row.ignore, "stderr") if older and row.request is None else row.ignore
    if older:
        expected, found = (result._replace(out=_MESSAGE.sub("<message>", result.out)) for result in (expected, found))
    differences = [
        _told(part, want, got)
        for part, want, got in zip(("code", "stdout", "stderr"), expected, found, strict=True)
        if want != got and part not in ignored
    ]
    fails = expected.code >= (1 if row.request is None else 400)
    codes = expected.code != found.code and "code" not in ignored
    return Verdict(row, "\n".join(differences) or None, older, fails, codes)


def _told(part: str, want: object, got: object) -> str:
    """A difference for a person; of long texts only the lines that differ."""
    if isinstance(want, str) and isinstance(got, str) and want.count("\n") + got.count("\n") > 6:
        ours, theirs = got.splitlines(), want.splitlines()
        want = [line for line in theirs if line not in ours]
        got = [line for line in ours if line not in theirs]
    return f"    {part:<6} docker: {want!r}\n{'':11}wherry: {got!r}"


def _result(row: Row, engine: Engine) -> Result:
    try:
        if row.setup:
            code, _, err = engine.shell(row.setup)
            if code:
                return Result(-1, "", f"setup failed: {err.decode(errors='replace')}")
        if row.request is not None:
            method, path, body, headers = row.request
            version = engine.env["DOCKER_API_VERSION"]
            status, answer, kind = engine.call(method, path.replace("/v/", f"/v{version}/", 1), body, headers)
            return Result(status, _text(row, engine, answer), kind)
        code, out, err = engine.shell(row.line)
        return Result(code, _text(row, engine, out), _normal(row, engine, err.decode(errors="replace")))
    except OSError as error:
        return Result(-1, "", f"{type(error).__name__}: {error}")
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


def shape(value: Any, skip: tuple[str, ...] = (), path: str = "") -> set[str]:
    """Keys and types of JSON: `.State.Pid number`, `.Args[] string`; `skip` names paths that are left out."""
    if path in skip:
        return set()
    if isinstance(value, dict):
        found = {f"{path} object"}
        for key, item in value.items():
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
