"""`--call=outline` and `--call=targets`: words and order as BuildKit 0.13's (dockerd 26.1.5, buildx 0.13.1) are."""

import pytest

from wherry.builder.lint.outline import answer
from wherry.errors import InvalidArgument

ONE = """# GO_VERSION which compiler
ARG GO_VERSION=1.22
ARG UNUSED

# base is the first
FROM scratch AS base
# A is an arg
ARG A=b
ARG NOVALUE
COPY Dockerfile /x

# build builds
# it all
FROM base AS build
ARG GO_VERSION
# C of build
ARG C=${A}x
RUN --mount=type=secret,id=one,required --mount=type=ssh --mount=type=cache,id=cc,target=/c true
RUN --mount=type=secret,id=two --mount=type=ssh,id=other,required --mount=type=secret,target=/run/x true

FROM scratch
COPY --from=build /x /y
FROM base AS unused
"""
TWO = """# V version

ARG V=1
# IMG the image
ARG IMG=scratch
# TWO two things
# ONE one thing
ARG ONE=1 TWO=2

FROM ${IMG} AS first
# V in first
ARG V=2
# ONE in first
ARG ONE
RUN --mount=type=secret,id=s,required=false --mount=type=secret,id=e true
FROM scratch AS other
ARG TARGETPLATFORM
ARG OTHER=o
RUN --mount=type=secret,id=o true

# final does it
FROM first AS final
# D with quotes
ARG D="a b"
ENV E=1
ARG E=2
RUN --mount=type=bind,from=other,target=/o --mount=type=secret,id=s,required true
"""


def text(call: str, source: str, **options: object) -> str:
    """What people read."""
    return answer(call, source.encode(), "Dockerfile", **{"build_args": {}, **options})[1]  # type: ignore[arg-type]


def test_targets_are_listed_with_their_comments() -> None:
    """The last stage is the default; one without a name has none."""
    assert text("targets", ONE) == (
        "TARGET           DESCRIPTION\n"
        "base             is the first\n"
        "build            builds\n"
        "                 \n"
        "unused (default) \n"
    )
    value, _ = answer("targets", ONE.encode(), "Dockerfile", build_args={})
    assert value["targets"][0] == {
        "name": "base",
        "description": "is the first",
        "base": "scratch",
        "location": {"ranges": [{"start": {"line": 6}, "end": {"line": 6}}]},
    }
    assert [entry.get("default", False) for entry in value["targets"]] == [False, False, False, True]


def test_an_outline_has_what_the_target_takes() -> None:
    """Arguments of it and of the stages below, with the values that they have; secrets and agents."""
    assert text("outline", ONE, target="build", build_args={"C": "given", "X": "1"}) == (
        "TARGET:      build\nDESCRIPTION: builds\n\n"
        "BUILD ARG    VALUE   DESCRIPTION\n"
        "GO_VERSION   1.22    which compiler\n"
        "A            b       is an arg\n"
        "NOVALUE              \n"
        "C            given   of build\n\n"
        "SECRET   REQUIRED\n"
        "one      true\n"
        "two      \n"
        "x        \n\n"
        "SSH       REQUIRED\n"
        "default   \n"
        "other     true\n\n"
    )
    assert text("outline", ONE) == (
        "TARGET: unused\n\nBUILD ARG   VALUE   DESCRIPTION\nA           b       is an arg\nNOVALUE             \n\n"
    )


def test_stages_that_files_come_from_count_too() -> None:
    """In the order of their lines; a global argument where FROM or a stage takes it up; a platform's never."""
    assert text("outline", TWO) == (
        "TARGET:      final\nDESCRIPTION: does it\n\n"
        "BUILD ARG   VALUE     DESCRIPTION\n"
        "IMG         scratch   the image\n"
        "ONE         1         one thing\n"
        "V           2         in first\n"
        "OTHER       o         \n"
        "D           a b       with quotes\n"
        "E           2         \n\n"
        "SECRET   REQUIRED\n"
        "e        \n"
        "o        \n"
        "s        true\n\n"
    )


def test_what_is_wrong_is_said_as_for_a_build() -> None:
    """A target that there is not, a Dockerfile that is none."""
    with pytest.raises(InvalidArgument, match='target stage "nope" could not be found'):
        text("outline", ONE, target="nope")
    with pytest.raises(InvalidArgument, match="FROM requires either one or three arguments"):
        text("targets", "FROM\n")
