"""The tree: lines joined, directives, flags, words, JSON, heredocs; what is refused."""

import pytest

from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.parser import parse, split_words


def dump(text: str) -> str:
    return parse(text.encode()).dump()


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("FROM busybox\n", '(from "busybox")'),
        ("from --platform=linux/amd64 busybox:1 AS x", '(from ["--platform=linux/amd64"] "busybox:1" "AS" "x")'),
        ("RUN a \\\n  b", '(run "a   b")'),
        ("RUN a \\  \n# gone\n  b", '(run "a   b")'),
        ("RUN a \\\n\n  b", '(run "a   b")'),
        ("RUN a \\\\\nRUN b", '(run "a \\\\\\\\")\n(run "b")'),
        ("# escape=`\nRUN a `\n b \\", '(run "a  b \\\\")'),
        ("#escape=`\n# syntax=x\nRUN a `\n b", '(run "a  b")'),
        ("# note\n# escape=`\nRUN a `\nRUN b", '(run "a `")\n(run "b")'),
        ("\ufeffFROM a", '(from "a")'),
        ('CMD ["a", "b c"]', '(cmd "a" "b c")'),
        ("CMD [\"a\", 'b']", '(cmd "[\\"a\\", \'b\']")'),
        ('CMD ["a"] x', '(cmd "[\\"a\\"] x")'),
        ("CMD []", "(cmd)"),
        ("ENV a b c", '(env "a" "b c" "")'),
        ("ENV a=b c='d e'", '(env "a" "b" "=" "c" "\'d e\'" "=")'),
        ("LABEL a=b\\ c", '(label "a" "b\\\\ c" "=")'),
        ("ARG a b=c", '(arg "a" "b=c")'),
        ("COPY a  b\tc", '(copy "a" "b" "c")'),
        ("ADD --chown='a b' -- --x y", '(add ["--chown=a b"] "--x" "y")'),
        ("ONBUILD RUN x", '(onbuild (run "x"))'),
        ("ONBUILD", "(onbuild)"),
        ("HEALTHCHECK --interval=1s CMD x y", '(healthcheck ["--interval=1s"] "CMD" "x y")'),
        ('HEALTHCHECK CMD ["x", "y"]', '(healthcheck "CMD" "x" "y")'),
        ("EXPOSE 80 81", '(expose "80" "81")'),
        ("NONSENSE a", '(nonsense "")'),
        ("RUN", "(run)"),
        ("RUN à é", '(run "à é")'),
    ],
)
def test_tree(text: str, tree: str) -> None:
    assert dump(text) == tree


def test_lines_and_comments_of_nodes() -> None:
    document = parse(b"# a first\n\nFROM a\n# two\n# three\nRUN x \\\n  y\n#\nRUN <<E\nbody\nE\n")
    assert [(n.start_line, n.end_line) for n in document.nodes] == [(3, 3), (6, 7), (9, 11)]
    assert [n.comments for n in document.nodes] == [("a first",), ("two", "three"), ()]


def test_directives_stop_at_the_first_other_line() -> None:
    document = parse(b"# syntax=docker/dockerfile:1\n# check=skip=all\n\n# escape=`\nFROM a\n")
    assert document.directive("syntax") == "docker/dockerfile:1"
    assert document.directive("check") == "skip=all"
    assert document.escape == "\\"


def test_heredocs() -> None:
    document = parse(b"COPY <<A <<-'B' /x\na $V\nA\n\tb\n\t\tB\nRUN cat <<E\nhi\nE\nRUN [\"<<E\"]\n")
    first, second = document.nodes[0].heredocs
    assert (first.name, first.content, first.expand, first.chomp) == ("A", "a $V\n", True, False)
    assert (second.name, second.text, second.expand, second.chomp) == ("B", "b\n", False, True)
    assert document.nodes[1].heredocs[0].content == "hi\n"
    assert document.nodes[2].heredocs == ()


def test_onbuild_takes_heredocs() -> None:
    assert parse(b"ONBUILD RUN <<E\nx\nE\n").nodes[0].heredocs[0].content == "x\n"


def test_a_quoted_sign_is_no_heredoc() -> None:
    assert parse(b"RUN echo '<<E' \"<<F\"\n").nodes[0].heredocs == ()


def test_empty_continuation_is_a_warning() -> None:
    (warning,) = parse(b"RUN a \\\n\n b\n").warnings
    assert warning.message == "Empty continuation line found in: RUN a  b"


def test_bytes_that_are_no_text_come_out_unchanged() -> None:
    node = parse(b"RUN a\xff b").nodes[0]
    assert node.words[0].encode("utf-8", "surrogateescape") == b"a\xff b"
    assert node.dump() == 'run "a\\xff b"'


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b"", "file with no instructions", 0),
        (b"# only\n\n", "file with no instructions", 2),
        (b"FROM a\nENV A\n", "ENV must have two arguments", 2),
        (b"LABEL a=b c\n", 'Syntax error - can\'t find = in "c". Must be of the form: name=value', 1),
        (b'RUN ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only", 1),
        (b"RUN [[[]]]", "when using JSON array syntax, arrays must be comprised of strings only", 1),
        (b"FROM a\nRUN <<E\nx\n", "unterminated heredoc", 2),
        (b"# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\", 1),
        (b"# syntax=a\n# syntax=b\nFROM a", "only one syntax parser directive can be used", 2),
        (b"FROM a\nRUN " + b"x" * 65536, "dockerfile line greater than max allowed size of 65535", 2),
        (b"RUN " + b"[" * 60000, "when using JSON array syntax, arrays must be comprised of strings only", 1),
    ],
)
def test_refused(data: bytes, message: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(data)
    assert str(caught.value) == message
    assert caught.value.location is not None
    assert caught.value.location[0] == line


def test_a_line_may_be_as_long_as_the_scanner_allows() -> None:
    assert parse(b"RUN " + b"x" * 65531 + b"\n").nodes
    assert parse(b"RUN " + b"x" * 65531).nodes
    with pytest.raises(DockerfileError, match="max allowed size"):
        parse(b"FROM a\nRUN " + b"x" * 65532)


def test_a_file_may_not_be_huge() -> None:
    with pytest.raises(DockerfileError, match="larger than"):
        parse(b"#" * (5 << 20))


def test_onbuild_may_be_written_a_thousand_times() -> None:
    assert parse(b"ONBUILD " * 8000 + b"RUN x").nodes[0].keyword == "onbuild"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo bar", ["foo", "bar"]),
        ("foo\\ bar", ["foo\\ bar"]),
        ("foo 'a b' \"c d\"", ["foo", "'a b'", '"c d"']),
        ("a\\", ["a"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ('"a\\" b"', ['"a\\" b"']),
        ("a=''", ["a=''"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text, "\\") == words
