"""`wherry build --check`, and what a build says of its Dockerfile: findings, errors, exit codes."""

import json

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import build

pytestmark = pytest.mark.root


def test_check_builds_nothing_and_says_what_it_found(context: Context) -> None:
    images = context.engine.docker("images", "-aq").out
    done = build(
        context, "FROM busybox\nENV a b\nRUN touch /x\nCMD $q\nCOPY $unknown /\n", "--check", "-t", "checked", code=1
    )
    lines = done.out.splitlines()
    assert lines[0] == "Check complete, 3 warnings have been found!"
    assert (
        "WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/" in lines
    )
    assert "   2 | >>> ENV a b" in lines
    assert "Usage of undefined variable '$unknown'" in lines
    assert context.engine.docker("images", "-aq").out == images


def test_check_of_a_good_file(context: Context) -> None:
    done = build(context, 'FROM busybox\nCMD ["x"]\n', "--check")
    assert done.out == "Check complete, no warnings found.\n"


def test_check_of_a_bad_file(context: Context) -> None:
    done = build(context, "FROM busybox as x\nNONSENSE\n", "--check", code=1)
    assert done.out.startswith("Check complete, 1 warning has been found!\n")
    assert "dockerfile parse error on line 2: unknown instruction: NONSENSE\nDockerfile:2\n----" in done.err
    assert "   2 | >>> NONSENSE" in done.err


def test_check_knows_base_images_and_dockerignore(context: Context) -> None:
    build(context, "FROM busybox\nENV known=1\nONBUILD ENV c d\n", "-t", "checkbase")
    context.write(".dockerignore", "gone\n")
    done = build(context, "FROM checkbase\nCOPY gone $known $unknown /\n", "--check", code=1)
    assert "3 warnings have been found" in done.out
    assert 'Attempting to Copy file "gone" that is excluded by .dockerignore' in done.out
    assert "undefined variable '$unknown' (did you mean $known?)" in done.out
    assert '"ENV key=value" should be used' in done.out


def test_check_of_a_dockerfile_on_stdin(context: Context) -> None:
    done = build(context, "", "--check", "-", code=1, stdin=b"FROM busybox\nMAINTAINER x\n")
    assert "Maintainer instruction is deprecated in favor of using label" in done.out


def test_a_build_tells_of_its_findings_at_its_end(context: Context) -> None:
    done = build(context, "FROM busybox AS unused\nMAINTAINER m\nFROM busybox\nCMD x\n")
    assert "\n 2 warnings found:\n - MaintainerDeprecated: Maintainer instruction is deprecated" in done.err
    assert " - JSONArgsRecommended: JSON arguments recommended for CMD to prevent" in done.err
    assert " behavior related to OS signals (line 4)\n" in done.err
    assert "warning" not in build(context, "# check=skip=all\nFROM busybox\nCMD x\n").err


def test_findings_are_in_the_messages(context: Context) -> None:
    context.write("Dockerfile", "FROM busybox\nCMD x\n")
    done = build(context, "FROM busybox\nCMD x\n", "--progress=rawjson")
    found = [warning for text in done.err.splitlines() for warning in json.loads(text).get("warnings", [])]
    assert [(warning["url"], warning["range"]) for warning in found] == [
        (
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
            [{"start": {"line": 2}, "end": {"line": 2}}],
        )
    ]


def test_findings_fail_a_build_that_asks_for_it(context: Context) -> None:
    done = build(context, "# check=error=true\nFROM busybox\nCMD x\n", "-t", "strict", code=1)
    assert "failed to solve: lint violation found for rules: JSONArgsRecommended" in done.err
    assert context.engine.docker("image", "inspect", "strict", check=False).code != 0
    build(context, "# check=error=true\nFROM busybox\nCMD x\n", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all")


def test_errors_show_their_place_in_buildkits_words(context: Context) -> None:
    done = build(context, 'FROM busybox\nRUN echo "x" && \\\n  exit 7\nUSER y\n', code=1)
    assert done.err.endswith(
        'Dockerfile:2\n--------------------\n   1 |     FROM busybox\n   2 | >>> RUN echo "x" && \\\n'
        "   3 | >>>   exit 7\n   4 |     USER y\n--------------------\n"
        'ERROR: failed to build: failed to solve: process "/bin/sh -c echo \\"x\\" &&   exit 7" did not complete '
        "successfully: exit code: 7\n"
    )
    done = build(context, "FROM busybox\n\nCOPY nope /\n", code=1)
    assert "   3 | >>> COPY nope /\n" in done.err
    assert '"/nope": not found' in done.err
    done = build(context, "", code=1)
    assert done.err.endswith("failed to solve: the Dockerfile cannot be empty\n")
