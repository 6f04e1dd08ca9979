"""What a stranger writes decides nothing about how long the engine works: patterns, expressions, links."""

import os

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import build

pytestmark = pytest.mark.root

STARS = "*a" * 24 + "*b"
"""Against many letters `a`: a matcher that goes back tries more ways than there is time."""


@pytest.fixture
def many(context: Context) -> Context:
    """A context with a name that nearly fits."""
    context.write("a" * 120)
    return context


def test_a_pattern_of_many_stars_ends_at_once(many: Context) -> None:
    """`COPY` and `ADD` say that nothing fits, and the engine answers others all the while."""
    for instruction in (f"COPY {STARS} /x/", f"ADD {STARS} /x/"):
        done = many.docker(f"FROM scratch\nCOPY a* /y/\n{instruction}\n", code=1)
        assert "no source files were specified" in done.err
    build(many, f"FROM scratch\nCOPY {STARS} /x/\nCOPY a* /y/\n")


def test_an_excluded_pattern_of_many_stars_ends_at_once(many: Context) -> None:
    """`--exclude`, of the context and of another stage: only what fits is left out."""
    flags = f"--exclude={STARS} --exclude=**/{STARS} --exclude=*{'?' * 119}b"
    text = f"FROM busybox AS one\nCOPY {flags} . /in/\nFROM busybox\nCOPY --from=one {flags} /in /x/\nRUN ls /x\n"
    assert "a" * 120 in build(many, text, "--progress", "plain", "--no-cache").err


def test_links_that_lead_around_are_looked_into_once(context: Context) -> None:
    """Ten names of one directory, asked for twelve levels down: not ten to the twelfth."""
    for number in range(10):
        os.symlink(".", context.directory / f"l{number}")
    context.write("file", "x")
    build(context, f"FROM busybox\nCOPY {'*/' * 12}file /x/\n")


def test_expressions_of_filters_end_at_once(many: Context) -> None:
    """`--filter name=` takes Go's expressions, which never go back."""
    engine = many.engine
    name = "a" * 60
    engine.docker("create", "--name", name, "busybox")
    engine.docker("volume", "create", name)
    engine.docker("network", "create", name)
    try:
        for words in (("ps", "-a"), ("volume", "ls"), ("network", "ls")):
            listed = engine.docker(*words, "-q", "--filter", "name=^/?(a+)+b$")
            assert listed.out == ""
            assert engine.docker(*words, "-q", "--filter", "name=^(a+)+$").out != ""
    finally:
        engine.docker("network", "rm", name)
        engine.docker("volume", "rm", name)
        engine.docker("rm", name)
