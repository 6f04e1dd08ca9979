"""`--change`: the Dockerfile instructions that touch a config only."""

from typing import Any

import pytest

from wherry.errors import InvalidArgument
from wherry.images.changes import apply, words


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({}, ["CMD a b"], {"Cmd": ["/bin/sh", "-c", "a b"]}),
        ({}, ['CMD ["a", "b"]'], {"Cmd": ["a", "b"]}),
        ({}, ['CMD ["a'], {"Cmd": ["/bin/sh", "-c", '["a']}),
        ({}, ["cmd []"], {"Cmd": []}),
        ({}, ["ENTRYPOINT a"], {"Entrypoint": ["/bin/sh", "-c", "a"]}),
        ({"Entrypoint": ["x"]}, ["ENTRYPOINT"], {"Entrypoint": None}),
        ({}, ["ENV a b c"], {"Env": ["a=b c"]}),
        ({}, ['ENV a="b c" d=e\\ f'], {"Env": ["a=b c", "d=e f"]}),
        ({"Env": ["a=1", "b=2"]}, ["ENV a=3 c=4"], {"Env": ["a=3", "b=2", "c=4"]}),
        ({}, ["ENV a="], {"Env": ["a="]}),
        ({"Labels": {"a": "1"}}, ["LABEL a=2 b='3 4'"], {"Labels": {"a": "2", "b": "3 4"}}),
        ({}, ["EXPOSE 80 81/UDP"], {"ExposedPorts": {"80/tcp": {}, "81/udp": {}}}),
        ({}, ["EXPOSE 80-82"], {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "82/tcp": {}}}),
        ({}, ["USER 1:2"], {"User": "1:2"}),
        ({}, ['VOLUME ["/a b", "/c"]'], {"Volumes": {"/a b": {}, "/c": {}}}),
        ({}, ["WORKDIR /a", "WORKDIR ../b"], {"WorkingDir": "/b"}),
        ({}, ["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        ({}, ["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (
            {},
            ['HEALTHCHECK --interval=1m30s --retries=3 CMD ["a"]'],
            {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 90_000_000_000, "Retries": 3}},
        ),
        ({}, ["ONBUILD RUN a"], {"OnBuild": ["RUN a"]}),
        ({}, ["# nothing", "", "CMD a \\\n b"], {"Cmd": ["/bin/sh", "-c", "a  b"]}),
        ({}, ["USER a\nWORKDIR /b"], {"User": "a", "WorkingDir": "/b"}),
        ({}, ['CMD ["\\ud800", "\\ud83d\\ude00"]'], {"Cmd": ["\ufffd", "\U0001f600"]}),
        ({}, ["CMD " + "[" * 50_000], {"Cmd": ["/bin/sh", "-c", "[" * 50_000]}),
    ],
)
def test_good(before: dict[str, Any], changes: list[str], after: dict[str, Any]) -> None:
    """An instruction does to a config what it does in a Dockerfile, and leaves the one it was given alone."""
    given = {**before}
    assert apply(before, changes) == after
    assert before == given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("FOO x", "FOO is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("ADD a b", "ADD is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("ENV =a", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE 0", "Invalid containerPort: 0"),
        ("EXPOSE 65536", "Invalid containerPort: 65536"),
        ("EXPOSE 9-8", "Invalid containerPort: 9-8"),
        ("EXPOSE 80/icmp", "Invalid proto: icmp"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", 'Unknown type "" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
        ("HEALTHCHECK --interval=5 CMD a", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --timeout=100us CMD a", 'Interval "timeout" cannot be less than 1ms'),
        ("HEALTHCHECK --foo=x CMD a", "unknown flag: --foo"),
    ],
)
def test_bad(change: str, said: str) -> None:
    """An instruction that cannot be is refused in Docker's words."""
    with pytest.raises(InvalidArgument) as caught:
        apply({}, [change])
    assert str(caught.value) == said


def test_words() -> None:
    """Quotes and backslashes keep blanks together."""
    assert words("a 'b c' \"d \\\" e\" f\\ g ''") == ["a", "b c", 'd " e', "f g", ""]
