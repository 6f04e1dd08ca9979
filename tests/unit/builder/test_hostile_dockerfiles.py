"""Whatever the bytes are: a clear error or a result, in bounded time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.lexer import MAX_FILE
from wherry.builder.language.parser import parse
from wherry.builder.language.shellwords import Lexer
from wherry.builder.lint.linter import Surroundings, lint
from wherry.errors import InvalidArgument

WORDS = (
    "FROM x,RUN ,COPY ,ADD ,ENV ,ARG ,LABEL ,ONBUILD ,HEALTHCHECK ,CMD ,SHELL ,VOLUME ,EXPOSE ,USER ,STOPSIGNAL ,AS ,"
    "--from=,--mount=,--link,--,<<E,<<-'E',E,a=b,a,$a,${a:-,${a//,},[,],\",',\\,`,=,#,# check=skip=all,# escape=`,/,*"
)
PIECES = [*WORDS.split(","), "\n", "\n", "\n", " ", "\t", "\r\n", ",", "\\\n", "é", "\u2003", "\x00"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@given(st.one_of(TEXT.map(str.encode), st.binary(max_size=200), TEXT.map(lambda text: b"FROM x\n" + text.encode())))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    report = lint(data, Surroundings())
    report.text()
    report.error_text()
    try:
        document = parse(data)
        lines = data.count(b"\n") + 1
        for node in document.nodes:
            assert 1 <= node.start_line <= node.end_line <= lines
            node.dump()
        parse_stages(document)
    except DockerfileError as error:
        assert report.error is not None
        assert error.location is not None or "no stages" in str(error)  # noqa: PT017
        assert str(error) == str(report.error) or not data  # noqa: PT017


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.sampled_from("\\`"))
@settings(max_examples=300, deadline=None)
def test_any_word(word: str, escape: str) -> None:
    try:
        got = Lexer(escape).expand(word, {"a": "x y", "b": ""})
    except InvalidArgument as error:
        assert str(error).startswith("failed to process ")  # noqa: PT017
        return
    assert all(part for part in got.words)
    if not set("$'\"<`\\") & set(word):
        assert got.text == word


def filled(piece: bytes, head: bytes = b"FROM x\n", tail: bytes = b"\n", size: int = MAX_FILE) -> bytes:
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


LONG = b"x" * 60_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(filled(b"RUN a\n", size=100_000), id="instructions"),
        pytest.param(filled(b"#\n"), id="comments"),
        pytest.param(filled(b"\\\n"), id="continuations"),
        pytest.param(filled(b"RUN a \\\n" + LONG + b" \\\n"), id="one-long-instruction"),
        pytest.param(filled(b"RUN a\n"), id="too-many-instructions"),
        pytest.param(filled(b"ENV a=$a$a\n", head=b"FROM x\nENV a=xxxx\n", size=100_000), id="doubling"),
        pytest.param(b"FROM x\n" + b"".join(b"ENV a%d=$b%d\n" % (i, i) for i in range(5_000)), id="names"),
        pytest.param(filled(b"ENV a=x \\\n$b \\\n"), id="one-env"),
        pytest.param(b"FROM x\n" + b"".join(b"ARG a%d=$b%d\n" % (i, i) for i in range(5_000)), id="args"),
        pytest.param(filled(b"FROM x AS a\n", head=b"", size=200_000), id="stages"),
        pytest.param(filled(b"FROM a AS a\n", head=b"", size=200_000), id="stage-on-stage"),
        pytest.param(filled(b"COPY --from=a / /\n", head=b"FROM y AS a\nFROM x\n", size=200_000), id="copies"),
        pytest.param(filled(b"EXPOSE 0-65535\n", size=200_000), id="ports"),
        pytest.param(filled(b"RUN <<E\nE\n"), id="heredocs"),
        pytest.param(filled(b"<<E ", head=b"FROM x\nRUN ", size=60_000), id="many-heredocs"),
        pytest.param(filled(b"ONBUILD ", size=60_000), id="onbuild"),
        pytest.param(filled(b'"', head=b"FROM x\nRUN [", size=60_000), id="quotes"),
        pytest.param(filled(b'["', head=b"FROM x\nRUN ", size=60_000), id="brackets"),
        pytest.param(filled(b"--a=b ", head=b"FROM x\nRUN ", size=60_000), id="flags"),
        pytest.param(filled(b"${a:-", head=b"FROM x\nENV b=", size=60_000), id="nested"),
        pytest.param(filled(b"\\ ", head=b"FROM x\nENV b=", size=60_000), id="escapes"),
        pytest.param(filled(b"# check=skip=a", head=b"# check=skip=a\nFROM x\n", size=60_000), id="checks"),
    ],
)
def test_large_files_end_in_time(data: bytes) -> None:
    start = time.process_time()
    report = lint(data, Surroundings())
    assert time.process_time() - start < 20
    if report.error is not None:
        assert len(report.error.message) < 200_000
