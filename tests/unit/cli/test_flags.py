"""Flags: the grammar and the words of Docker's."""

import pytest

from wherry.cli.commands.run import RUN
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, HelpRequested, Invocation, parse

FLAGS = (
    Flag("all", "a", "bool", "All"),
    Flag("env", "e", "list", "Environment"),
    Flag("name", "n", "string", "Name"),
    Flag("count", "c", "int", "Count", 7),
    Flag("filter", "f", "filter", "Filter"),
    Flag("on", "", "bool", "On", True),
)


def _nothing(_command: Invocation) -> None:
    return None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-a"], {"all": True}),
        (["-ae", "A=b", "-eC=d"], {"all": True, "env": ["A=b", "C=d"]}),
        (["--env=A=b", "--env", "x"], {"env": ["A=b", "x"]}),
        (["-n=x"], {"name": "x"}),
        (["-n="], {"name": "="}),
        (["-anx"], {"all": True, "name": "x"}),
        (["--name="], {"name": ""}),
        (["-c5"], {"count": 5}),
        (["-c", "-5"], {"count": -5}),
        (["--count=0x10"], {"count": 16}),
        ([], {"count": 7, "env": [], "on": True}),
        (["--on=false"], {"on": False}),
        (["--all=T"], {"all": True}),
    ],
)
def test_values(words: list[str], expected: dict[str, object]) -> None:
    """Values stand attached, behind an equals sign, or as the next word; truth values take none."""
    values = parse(FLAGS, words)
    assert {name: values[name] for name in expected} == expected


def test_interspersed() -> None:
    """Flags may follow arguments, unless the command's own arguments begin there; -- ends them."""
    assert parse(FLAGS, ["x", "-a", "--", "-n", "y"]).args == ["x", "-n", "y"]
    values = parse(FLAGS, ["-a", "x", "-n", "y"], interspersed=False)
    assert (values.args, values["name"]) == (["x", "-n", "y"], "")
    assert parse(FLAGS, ["-", "x"]).args == ["-", "x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=bar"], "unknown flag: --foo"),
        (["-ax"], "unknown shorthand flag: 'x' in -x"),
        (["--name"], "flag needs an argument: --name"),
        (["-n"], "flag needs an argument: 'n' in -n"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["--count", "x"],
            'invalid argument "x" for "-c, --count" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            ["--on=maybe"],
            'invalid argument "maybe" for "--on" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-fx"], 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
        (
            ["-c99999999999999999999"],
            (
                'invalid argument "99999999999999999999" for "-c, --count" flag:'
                ' strconv.ParseInt: parsing "99999999999999999999": value out of range'
            ),
        ),
    ],
)
def test_complaints(words: list[str], message: str) -> None:
    """What is not understood is named in Docker's words."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse(FLAGS, words)
    assert str(caught.value) == message


def test_help_counts_after_everything_is_read() -> None:
    """--help anywhere asks for help, but an unknown flag behind it is still refused."""
    with pytest.raises(HelpRequested):
        parse(FLAGS, ["x", "--help"])
    with pytest.raises(ValueError, match="unknown flag"):
        parse(FLAGS, ["--help", "--foo"])


def test_filters_are_collected() -> None:
    """Several values of one filter stand side by side, each once."""
    values = parse(FLAGS, ["-f", "a=1", "-f", "A=2", "-f", "a=1", "-f", "b=x=y"])
    assert values.filters() == {"a": ["1", "2"], "b": ["x=y"]}


@pytest.mark.parametrize(
    ("arguments", "count", "words"),
    [
        ((0, 0), 1, "'wherry x' accepts no arguments"),
        ((1, 1), 2, "'wherry x' requires 1 argument"),
        ((2, 2), 1, "'wherry x' requires 2 arguments"),
        ((1, None), 0, "'wherry x' requires at least 1 argument"),
        ((0, 1), 2, "'wherry x' requires at most 1 argument"),
        ((1, 2), 3, "'wherry x' requires at least 1 and at most 2 arguments"),
    ],
)
def test_argument_counts(arguments: tuple[int, int | None], count: int, words: str) -> None:
    """Too few and too many arguments are refused with the usage line, exit code 1."""
    command = Command("[OPTIONS]", "Do", _nothing, arguments=arguments)
    with pytest.raises(Failure) as caught:
        command.parse("wherry x", ["y"] * count)
    assert caught.value.message.startswith(f"wherry: {words}\n\nUsage:  wherry x [OPTIONS]\n\n")
    assert caught.value.status == 1


def test_flags_of_run() -> None:
    """Every flag of run has a name and a letter of its own."""
    names = [flag.name for flag in RUN.flags]
    letters = [flag.short for flag in RUN.flags if flag.short]
    assert len(set(names)) == len(names)
    assert len(set(letters)) == len(letters)
    with pytest.raises(Failure) as caught:
        RUN.parse("wherry run", ["--cpu-count", "2", "busybox"])
    assert caught.value.status == 125
