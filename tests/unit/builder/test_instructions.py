"""Instructions as values, and BuildKit's words for those that are wrong."""

import pytest

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.instructions import parse_stages, parse_trigger
from wherry.builder.language.parser import parse


def command(text: str) -> c.Command:
    return parse_stages(parse(b"FROM x\n" + text.encode())).stages[0].commands[0]


def test_stages_and_their_arguments() -> None:
    program = parse_stages(
        parse(b"ARG A=1 B\n# base the base\nFROM --platform=linux/arm64 x:$A As Base\nRUN a\nFROM y\n")
    )
    assert [(p.key, p.value) for p in program.meta_args[0].args] == [("A", "1"), ("B", None)]
    first, second = program.stages
    assert (first.name, first.base_name, first.platform, first.location) == ("base", "x:$A", "linux/arm64", (3, 3))
    assert first.description == "the base"
    assert [type(command) for command in first.commands] == [c.Run]
    assert (second.name, second.commands) == ("", ())


def test_copy() -> None:
    got = command("COPY --from=a --chown=1:2 --chmod=755 --link --parents --exclude=*.o --exclude=b s1 s2 /d/")
    assert isinstance(got, c.Copy)
    assert (got.sources, got.dest, got.from_, got.chown, got.chmod) == (("s1", "s2"), "/d/", "a", "1:2", "755")
    assert (got.link, got.parents, got.exclude) == (True, True, ("*.o", "b"))
    assert got.original.startswith("COPY --from=a")


def test_copy_of_heredocs() -> None:
    got = command("COPY <<-a <<'b' c /d\n\tx\na\n\ty$z\nb\n")
    assert isinstance(got, c.Copy)
    assert got.files == (c.InlineFile("a", "x\n", True), c.InlineFile("b", "\ty$z\n", False))
    assert got.sources == ("c",)


def test_add() -> None:
    got = command("ADD --checksum=sha256:00 --keep-git-dir --unpack=false https://x/y /d")
    assert isinstance(got, c.Add)
    assert (got.checksum, got.keep_git_dir, got.unpack) == ("sha256:00", True, False)
    plain = command("ADD a b")
    assert isinstance(plain, c.Add)
    assert (plain.keep_git_dir, plain.unpack) == (None, None)


def test_run() -> None:
    got = command("RUN --mount=type=bind,from=a --mount=type=$T --network=none --device=v/c=d,required cat <<E\nx\nE\n")
    assert isinstance(got, c.Run)
    assert (got.cmdline, got.shell, got.network, got.security) == (("cat <<E",), True, "none", "sandbox")
    assert got.mount_flags == ("type=bind,from=a", "type=$T")
    assert [mount.from_ for mount in got.mounts] == ["a", ""]
    assert got.devices == (c.RunDevice("v/c=d", True),)
    assert got.files == (c.RunFile("E", "x\n", False),)
    assert got.flags_used == ("device", "mount", "network")


def test_healthcheck() -> None:
    got = command("HEALTHCHECK --interval=1m30s --timeout=2.5s --start-period=0 --retries=3 cmd a b")
    assert isinstance(got, c.Healthcheck)
    assert (got.test, got.interval, got.timeout, got.retries) == (("CMD-SHELL", "a b"), 90 * 10**9, 25 * 10**8, 3)
    none = command("HEALTHCHECK NONE")
    assert isinstance(none, c.Healthcheck)
    assert none.test == ("NONE",)


def test_the_others() -> None:
    env = command("ENV a b c")
    assert isinstance(env, c.Env) and env.pairs == (c.Pair("a", "b c", True),)
    label = command('LABEL a="b c" d=')
    assert isinstance(label, c.Label) and label.pairs == (c.Pair("a", '"b c"'), c.Pair("d", ""))
    expose = command("EXPOSE 90 80/udp")
    assert isinstance(expose, c.Expose) and expose.ports == ("80/udp", "90")
    shell = command('SHELL ["/bin/bash", "-c"]')
    assert isinstance(shell, c.Shell) and shell.shell == ("/bin/bash", "-c")
    entry = command("ENTRYPOINT []")
    assert isinstance(entry, c.Entrypoint) and (entry.cmdline, entry.shell) == ((), False)
    volume = command('VOLUME ["/a", " /b "]')
    assert isinstance(volume, c.Volume) and volume.volumes == ("/a", "/b")
    onbuild = command("ONBUILD  RUN cat <<E\nx\nE\n")
    assert isinstance(onbuild, c.Onbuild) and onbuild.expression == "RUN cat <<E\nx\nE"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NONSENSE bar", "unknown instruction: NONSENSE"),
        ("FOO bar", "unknown instruction: FOO (did you mean FROM?)"),
        ("COPPY a b", "unknown instruction: COPPY (did you mean COPY?)"),
        ("copi a b", "unknown instruction: copi (did you mean copy?)"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols'),
        ("FROM --platfrom=x a", "unknown flag: --platfrom (did you mean platform?)"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --from=a --from=b c d", "duplicate flag specified: --from"),
        ("COPY --checksum=x c d", "unknown flag: --checksum"),
        ("COPY a <<E\nE\n", "COPY cannot accept a heredoc as a destination"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =x", "ENV names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK X y", 'Unknown type "X" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --interval=5y CMD x", 'time: unknown unit "y" in duration "5y"'),
        ("HEALTHCHECK --interval=x CMD x", 'time: invalid duration "x"'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=a CMD x", 'strconv.ParseInt: parsing "a": invalid syntax'),
        ("HEALTHCHECK --retries=99999999999 CMD x", 'strconv.ParseInt: parsing "99999999999": value out of range'),
        ("RUN --network=x y", 'invalid network mode "x"'),
        ("RUN --security=x y", 'security "x" is not valid'),
        ("RUN --mount=from=$x y", "'from' doesn't support variable expansion, define alias stage instead"),
        ("RUN --mont=x y", "unknown flag: --mont (did you mean mount?)"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        command(text)
    assert str(caught.value) == f"dockerfile parse error on line 2: {message}"
    assert caught.value.location is not None and caught.value.location[0] == 2


def test_an_instruction_before_from() -> None:
    with pytest.raises(DockerfileError, match=r"^no build stage in current context$"):
        parse_stages(parse(b"RUN x\nFROM y\n"))


def test_no_from() -> None:
    with pytest.raises(DockerfileError, match=r"^dockerfile contains no stages to build$"):
        parse_stages(parse(b"ARG x\n"))


def test_triggers_are_located_at_from() -> None:
    stage = parse_stages(parse(b"\n\nFROM x\n")).stages[0]
    got = parse_trigger("COPY <<E /x\ny\nE", stage)
    assert isinstance(got, c.Copy)
    assert got.location == (3, 3)
    with pytest.raises(DockerfileError) as caught:
        parse_trigger("RUN a\nRUN b", stage)
    assert str(caught.value) == "onbuild trigger should be a single expression"
    assert caught.value.location == (3, 3)
    with pytest.raises(DockerfileError, match="FROM isn't allowed"):
        parse_trigger("FROM y", stage)
