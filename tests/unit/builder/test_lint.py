"""Each rule of BuildKit's reference: when it speaks, its words, how it is switched off; what `--check` prints."""

import pytest

from wherry.builder.language.ignorefile import Matcher
from wherry.builder.lint.linter import BaseImage, Surroundings, lint
from wherry.builder.lint.report import LintReport, parse_options
from wherry.builder.lint.rules import RULES
from wherry.errors import InvalidArgument
from wherry.oci.platform import Platform

AMD64 = Platform("linux", "amd64")


def read(
    text: str,
    ignore: list[str] | None = None,
    images: dict[str, BaseImage] | None = None,
    target: str = "",
    args: dict[str, str] | None = None,
) -> LintReport:
    around = Surroundings(
        build_args=args or {},
        target=target,
        build_platform=AMD64,
        target_platform=AMD64,
        ignore=Matcher(ignore) if ignore is not None else None,
        images={"x": BaseImage(), "y": BaseImage()} if images is None else images,
    )
    return lint(text.encode(), around)


CASES = {
    "StageNameCasing": ("FROM x AS Base\n", "Stage name 'Base' should be lowercase", 1),
    "FromAsCasing": ("FROM x as base\n", "'as' and 'FROM' keywords' casing do not match", 1),
    "NoEmptyContinuation": ("FROM x\nRUN a \\\n\n b\n", "Empty continuation line", 4),
    "ConsistentInstructionCasing": (
        "FROM x\nRUN a\nrun b\n",
        "Command 'run' should match the case of the command majority (uppercase)",
        3,
    ),
    "DuplicateStageName": (
        "FROM x AS a\nFROM y AS a\n",
        'Duplicate stage name "a", stage names should be unique',
        2,
    ),
    "ReservedStageName": (
        "FROM x AS context\n",
        'Stage name should not use the same name as reserved stage "context"',
        1,
    ),
    "JSONArgsRecommended": (
        "FROM x\nCMD a b\n",
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        2,
    ),
    "MaintainerDeprecated": (
        "FROM x\nMAINTAINER me\n",
        "Maintainer instruction is deprecated in favor of using label",
        2,
    ),
    "UndefinedArgInFrom": (
        "ARG VERSION=1\nFROM x:${VERSON:-1}\n",
        "FROM argument 'VERSON' is not declared (did you mean VERSION?)",
        2,
    ),
    "WorkdirRelativePath": (
        "FROM x\nWORKDIR app\nWORKDIR more\n",
        'Relative workdir "app" can have unexpected results if the base image changes',
        2,
    ),
    "UndefinedVar": (
        "FROM x\nARG foo\nENV bar=1\nCOPY $barr $foo $PATH /\n",
        "Usage of undefined variable '$barr' (did you mean $bar?)",
        4,
    ),
    "MultipleInstructionsDisallowed": (
        'FROM x\nCMD ["a"]\nENTRYPOINT ["c"]\nCMD ["b"]\n',
        "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        2,
    ),
    "LegacyKeyValueFormat": (
        "FROM x\nENV a b\n",
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
        2,
    ),
    "RedundantTargetPlatform": (
        "FROM --platform=$TARGETPLATFORM x\n",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        1,
    ),
    "SecretsUsedInArgOrEnv": (
        "FROM x\nARG GIT_TOKEN\nENV TOKEN_FILE=/x PUBLIC_KEY=y KEYS=z\n",
        'Do not use ARG or ENV instructions for sensitive data (ARG "GIT_TOKEN")',
        2,
    ),
    "InvalidDefaultArgInFrom": (
        "ARG V\nFROM x:$V\n",
        "Default value for ARG x:$V results in empty or invalid base image name",
        2,
    ),
    "FromPlatformFlagConstDisallowed": (
        "FROM --platform=linux/arm64 x AS a\nFROM --platform=linux/arm64 x AS b-arm64\n",
        'FROM --platform flag should not use constant value "linux/arm64"',
        1,
    ),
    "ExposeProtoCasing": (
        "FROM x\nEXPOSE 80/TCP\n",
        "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        2,
    ),
    "ExposeInvalidFormat": (
        "FROM x\nEXPOSE 8080:80\n",
        "EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80'",
        2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    text, detail, line = CASES[name]
    build_args = {"V": "1"} if name == "InvalidDefaultArgInFrom" else {}
    (finding,) = read(text, args=build_args).findings
    assert (finding.rule.name, finding.detail, finding.location[1]) == (name, detail, line)
    assert finding.rule.url == f"https://docs.docker.com/go/dockerfile/rule/{finding.rule.page}/"
    assert read(f"# check=skip={name}\n{text}", args=build_args).findings == []
    assert read(f"# check=skip=all\n{text}", args=build_args).findings == []
    assert read(text, args={"BUILDKIT_DOCKERFILE_CHECK": f"skip=x,{name}", **build_args}).findings == []


def test_every_rule_has_a_case() -> None:
    others = {"InvalidBaseImagePlatform", "CopyIgnoredFile", "InvalidDefinitionDescription"}
    assert set(CASES) | others == set(RULES)


def test_base_image_of_another_platform() -> None:
    images = {"x": BaseImage(platform=Platform("linux", "arm64"))}
    (finding,) = read("FROM x\n", images=images).findings
    assert finding.rule.name == "InvalidBaseImagePlatform"
    assert finding.detail == (
        'Base image x was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    )
    assert read("FROM --platform=$BUILDPLATFORM x\n", images={"x": BaseImage(platform=AMD64)}).findings == []


def test_ignored_files() -> None:
    text = "FROM x AS a\nCOPY a.o b.c https://h/a.o /\nFROM y\nADD dir/../a.o /\nCOPY --from=a a.o /\nCOPY . /\n"
    text = text.replace("https://h/a.o ", "")
    found = [(f.detail, f.location[0]) for f in read(text, ignore=["*.o"]).findings]
    assert found == [
        ('Attempting to Copy file "a.o" that is excluded by .dockerignore', 2),
        ('Attempting to Add file "a.o" that is excluded by .dockerignore', 4),
    ]
    assert read(text, ignore=["*.o", "!a.o"]).findings == []
    assert len(read("FROM x\nCOPY . /\n", ignore=["*"]).findings) == 1


def test_descriptions_are_checked_only_where_that_is_asked_for() -> None:
    text = "# wrong words\nARG foo=1\n# foo: right\n#\nARG bar=1\n# x\nARG a b\n# base is it\nFROM x AS base\n"
    assert read(text).findings == []
    found = [f.detail for f in read("# check=experimental=all;skip=all\n" + text).findings]
    assert found == [
        "Comment for ARG should follow the format: `# foo <description>`",
        "Comment for ARG should follow the format: `# <arg_key> <description>`",
    ]


def test_a_comment_switches_a_rule_for_one_instruction() -> None:
    report = read("FROM x\n# check=skip=JSONArgsRecommended\nCMD a\n# check=skip=all because\nENV a b\nENV c d\n")
    assert [f.short() for f in report.findings] == [
        'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 6)'
    ]


def test_the_base_image_tells_its_environment_shell_and_triggers() -> None:
    images = {"x": BaseImage(env={"A": "1"}, shell=["/bin/bash", "-c"], onbuild=["ENV q w"])}
    report = read("FROM x AS a\nCOPY $A $PATH /\nCMD b\nFROM a\nENTRYPOINT c\n", images=images)
    assert [(f.rule.name, f.location) for f in report.findings] == [("LegacyKeyValueFormat", (1, 1))]


def test_a_stage_goes_on_where_its_base_ended() -> None:
    report = read('FROM x AS a\nARG V=1\nENV e=2\nWORKDIR /w\nSHELL ["b"]\nFROM a\nWORKDIR sub\nCOPY $V $e /\nCMD c\n')
    assert report.findings == []


def test_only_the_target_is_read_where_one_is_named() -> None:
    text = "FROM x AS a\nENV a b\nFROM y AS b\nENV c d\n"
    assert [f.location[0] for f in read(text).findings] == [2, 4]
    assert [f.location[0] for f in read(text, target="a").findings] == [2]


def test_findings_before_an_error_are_kept() -> None:
    report = read("FROM x as a\nMAINTAINER y\nFOO\nCMD z\n")
    assert [f.rule.name for f in report.findings] == ["FromAsCasing", "MaintainerDeprecated"]
    assert report.error is not None
    assert report.error_text() == (
        "dockerfile parse error on line 3: unknown instruction: FOO (did you mean FROM?)\n"
        "Dockerfile:3\n--------------------\n   1 |     FROM x as a\n   2 |     MAINTAINER y\n   3 | >>> FOO\n"
        "   4 |     CMD z\n   5 |     \n--------------------\n"
    )


def test_findings_may_be_an_error() -> None:
    report = read("# check=error=true\nFROM x\nENV a b\nCMD c\nENV c d\n")
    failure = report.failure()
    assert str(failure) == "lint violation found for rules: LegacyKeyValueFormat, JSONArgsRecommended"
    assert read("FROM x\nENV a b\n").failure() is None
    assert read("# check=error=true\nFROM x\n").failure() is None


def test_nothing_is_said_of_variables_on_top_of_an_unknown_image() -> None:
    text = "FROM x AS a\nCOPY $b /\nFROM a\nCOPY $c /\nFROM scratch\nCOPY $d /\n"
    assert [f.location[0] for f in read(text, images={}).findings] == [6]


def test_text() -> None:
    assert read("FROM x\nENV a b\n").text() == (
        "\nWARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/\n"
        '"ENV key=value" should be used instead of legacy "ENV key value" format\n'
        "Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> ENV a b\n   3 |     \n--------------------\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# check=nonsense\nFROM x\n", 'failed to parse check options: invalid check option "nonsense"'),
        ("FROM x\nCOPY --chmod=999 a b\n", "invalid chmod parameter: '999'. it should be octal string"),
        ("FROM x\nCOPY https://h/x b\n", "source can't be a URL for COPY"),
        ("FROM x\nCOPY git@h:x/y b\n", "source can't be a git ref for COPY"),
        ("FROM x\nADD --checksum=sha256:00 a b\n", "checksum requires HTTP(S) or Git sources"),
        ("FROM x\nADD --checksum=sha256:00 http://h/a b\n", "invalid checksum digest length"),
        ("FROM x\nADD --checksum=sha256:00 a c b\n", "checksum can't be specified for multiple sources"),
        ("FROM x\nSTOPSIGNAL 0\n", "invalid signal: 0"),
        ("FROM x\nSTOPSIGNAL WHAT\n", "invalid signal: WHAT"),
        ("FROM x\nRUN --mount=type=ssh,source=a b\n", "ssh does not support source"),
        ("FROM x\nCOPY --from=3 a b\n", "invalid stage index 3"),
    ],
)
def test_errors(text: str, message: str) -> None:
    error = read(text).error
    assert error is not None
    assert str(error).startswith(message)


@pytest.mark.parametrize(
    "line", ["COPY --chmod=u+x,go=rX a b", "STOPSIGNAL SIGRTMIN+3", "STOPSIGNAL 15", "STOPSIGNAL term"]
)
def test_no_errors(line: str) -> None:
    assert read(f"FROM x\n{line}\n").error is None


def test_options() -> None:
    got = parse_options(" skip=A, B ; experimental=all;error=TRUE")
    assert (got.skip, got.experimental_all, got.error) == (frozenset(("A", "B")), True, True)
    for text in ("x", "x=y", "skip=a;error=maybe"):
        with pytest.raises(InvalidArgument, match="check option"):
            parse_options(text)
