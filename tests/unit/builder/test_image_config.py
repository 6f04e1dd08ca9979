"""What instructions make of a configuration, and what history tells of them, in the words of each builder."""

from typing import Any

import pytest

from wherry.builder.graph import config as configs
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse


def made(lines: str) -> dict[str, Any]:
    """The configuration that instructions make."""
    config: dict[str, Any] = {}
    for command in parse_stages(parse(f"FROM x\n{lines}".encode())).stages[0].commands:
        configs.apply(config, command, first_cmd=True)
    return config


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ("WORKDIR /a/", "/a/"),
        ("WORKDIR /a/../b", "/a/../b"),
        ("WORKDIR /a/\nWORKDIR b/", "/a/b"),
        ("WORKDIR a", "/a"),
        ("WORKDIR /a\nWORKDIR ../..", "/"),
    ],
)
def test_a_working_directory_stays_as_it_is_written_where_it_is_absolute(lines: str, path: str) -> None:
    assert made(lines)["WorkingDir"] == path


@pytest.mark.parametrize(
    ("line", "classic", "buildkit"),
    [
        (
            "COPY --from=a --chown=1 b c /d",
            "/bin/sh -c #(nop) COPY --from=a --chown=1 b c /d ",
            "COPY --chown=1 b c /d # buildkit",
        ),
        ("COPY --parents b /d", "/bin/sh -c #(nop) COPY --parents b /d ", "COPY --parents b /d # buildkit"),
        ("ADD <<E /f\nE", "/bin/sh -c #(nop) ADD E /f ", "ADD <<E /f # buildkit"),
        (
            "HEALTHCHECK --interval=90s --retries=2 CMD a b",
            '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "a b"] "1m30s" "0s" "0s" "0s" \'\\x02\'}',
            "HEALTHCHECK {Test:[CMD-SHELL a b] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}",
        ),
        (
            "HEALTHCHECK --interval=1h0.001234567s --timeout=1.23456789s CMD a",
            '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "a"] "1h0m0.001234567s" "1.23456789s" "0s" "0s" \'\\x00\'}',
            (
                "HEALTHCHECK {Test:[CMD-SHELL a] Interval:1h0m0.001234567s Timeout:1.23456789s StartPeriod:0s "
                "StartInterval:0s Retries:0}"
            ),
        ),
        ("EXPOSE 80", "/bin/sh -c #(nop)  EXPOSE 80", "EXPOSE [80]"),
        ("CMD a 'b'", '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "a \'b\'"]', 'CMD ["/bin/sh" "-c" "a \'b\'"]'),
        ("WORKDIR /w/", "/bin/sh -c #(nop) WORKDIR /w/", "WORKDIR /w/"),
    ],
)
def test_history(line: str, classic: str, buildkit: str) -> None:
    command = parse_stages(parse(f"FROM x\n{line}\n".encode())).stages[0].commands[0]
    assert configs.told(command, {}, "classic") == classic
    assert configs.told(command, {}, "buildkit") == buildkit
