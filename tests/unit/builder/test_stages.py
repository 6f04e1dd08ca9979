"""Which stages a target needs, where files and bases come from, circles and names that are not there."""

import pytest

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.stages import Plan, Source, plan
from wherry.builder.language.variables import Globals
from wherry.oci.platform import Platform


def make(
    text: str,
    target: str = "",
    contexts: tuple[str, ...] = (),
    triggers: dict[int, list[str]] | None = None,
    **build_args: str,
) -> Plan:
    program = parse_stages(parse(text.encode()))
    here = Platform("linux", "amd64")
    shared = Globals(build_args=build_args, build_platform=here, target_platform=here)
    shared.declare(program.meta_args)
    return plan(program.stages, shared, target=target, contexts=contexts, triggers=triggers)


MANY = """
FROM busybox AS one
FROM one AS two
FROM alpine AS three
COPY --from=two / /
FROM scratch AS four
COPY --from=0 / /
RUN --mount=type=cache,target=/x --mount=from=three,target=/y x
FROM debian
COPY --from=nginx:1 / /
"""


def test_only_what_is_needed() -> None:
    assert make(MANY).needed == (4,)
    assert make(MANY).images() == ["debian", "nginx:1"]
    four = make(MANY, "four")
    assert four.needed == (0, 1, 2, 3)
    assert four.images() == ["busybox", "alpine"]
    assert four.stages[3].sources[1] == (None, Source("stage", "three", 2))
    assert make(MANY, "TWO").needed == (0, 1)
    assert make(MANY).stages[4].name == "stage-4"


def test_a_base_name_is_expanded_and_may_be_a_stage() -> None:
    got = make("ARG B=one\nFROM x AS one\nFROM $B\n")
    assert got.stages[1].base == Source("stage", "one", 0)
    assert make("ARG B=one\nFROM x AS one\nFROM $B\n", B="y:2").images() == ["y:2"]


def test_a_base_is_looked_up_only_above() -> None:
    assert make("FROM later\nFROM x AS later\nFROM scratch\n", "later").needed == (1,)
    assert make("FROM later AS a\nFROM x AS later\n", "a").images() == ["later"]


def test_named_contexts() -> None:
    got = make(
        "FROM alpine:latest AS a\nFROM b AS b\nRUN x\nFROM a\nCOPY --from=b / /\nCOPY --from=other / /\n",
        "",
        ("docker.io/library/alpine", "b", "other"),
    )
    assert got.stages[0].base == Source("context", "docker.io/library/alpine")
    assert got.stages[1].replaced
    assert got.contexts() == ["docker.io/library/alpine", "b", "other"]
    assert got.images() == []


def test_platforms() -> None:
    got = make("FROM --platform=$BUILDPLATFORM x\nFROM --platform=arm64 y\n")
    assert [str(stage.platform) for stage in got.stages] == ["linux/amd64", "linux/arm64"]


def test_triggers_come_first() -> None:
    got = make("FROM x AS a\nONBUILD COPY --from=t / /\nFROM t AS t\nFROM a\nRUN z\n", triggers={0: ["RUN from-image"]})
    assert [command.original for command in got.stages[2].stage.commands] == ["COPY --from=t / /", "RUN z"]
    assert [type(command) for command in got.stages[0].stage.commands] == [c.Run, c.Onbuild]
    assert got.needed == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "target", "message", "line"),
    [
        (MANY, "fuor", 'target stage "fuor" could not be found (did you mean four?)', None),
        (MANY, "0", 'target stage "0" could not be found', None),
        ("FROM $X\n", "", "base name ($X) should not be blank", 1),
        ("FROM a/B\n", "", 'failed to parse stage name "a/B": invalid reference format', 1),
        ("FROM --platform=$X a\n", "", "empty platform value from expression $X", 1),
        ("FROM --platform=a/b/c/d a\n", "", "failed to parse platform a/b/c/d: ", 1),
        ("FROM x AS a\nCOPY --from=a / /\n", "", "circular dependency detected on stage: a", 2),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM y AS b\nCOPY --from=a / /\n",
            "",
            "circular dependency detected on stage: a",
            4,
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM y AS b\n",
            "a",
            'cannot copy from stage "b", it needs to be defined before current stage "a"',
            2,
        ),
        ("FROM x AS a\nRUN --mount=from=b y\nFROM y AS b\n", "a", 'cannot mount from stage "b", ', 2),
        ("FROM x\nCOPY --from=7 / /\n", "", "invalid stage index 7", 2),
        (
            "ARG a=b\nFROM x\nCOPY --from=$a / /\n",
            "",
            "variable expansion is not supported for --from, define a new",
            3,
        ),
    ],
)
def test_refused(text: str, target: str, message: str, line: int | None) -> None:
    with pytest.raises(DockerfileError) as caught:
        make(text, target)
    assert str(caught.value).startswith(message)
    assert (caught.value.location or (None,))[0] == line


def test_twenty_thousand_stages() -> None:
    text = "FROM scratch AS s0\n" + "".join(f"FROM s{i} AS s{i + 1}\n" for i in range(19_999))
    assert len(make(text).needed) == 20_000
