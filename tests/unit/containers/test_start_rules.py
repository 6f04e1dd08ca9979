"""Small rules of create and start: exit codes of failed starts, log options, the smallest limit of processes."""

import msgspec
import pytest

from wherry.containers.exits import start_failure_code
from wherry.containers.logs import _file_size, validate, validate_values
from wherry.containers.validate_resources import validate_resources
from wherry.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotSupported
from wherry.runtime.cgroups.features import _V1, Features
from wherry.wire.containers import HostConfig, LogConfig


def test_exit_codes_of_failed_starts() -> None:
    """127 for what is not there, 126 for what cannot be executed, 128 for all else (as dockerd has them)."""
    errors = (CommandNotFound("x"), CommandNotExecutable("x"), InvalidArgument("x"), OSError("x"))
    assert [start_failure_code(error) for error in errors] == [127, 126, 128, 128]


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("syslog", {"syslog-format": "rfc1"}, "Invalid syslog format"),
        ("syslog", {"syslog-facility": "nobody"}, "invalid syslog facility"),
        ("syslog", {"syslog-facility": "24"}, "invalid syslog facility"),
        ("syslog", {"max-size": "1m"}, "unknown log opt 'max-size' for syslog log driver"),
        ("json-file", {"syslog-format": "rfc5424"}, "unknown log opt 'syslog-format' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for log driver local"),
        ("fax", {}, 'plugin "fax" not found'),
    ],
)
def test_refused_log_options(driver: str, options: dict[str, str], words: str) -> None:
    """In dockerd's words."""
    with pytest.raises(InvalidArgument, match=words):
        validate(LogConfig(driver, options))


def test_log_options_that_are_taken() -> None:
    """Each driver has its own; what a syslog server asks for is nothing to the others."""
    validate(LogConfig("json-file", {"max-size": "1m", "labels": "a"}))
    validate(LogConfig("local", {"max-file": "2"}))
    validate(LogConfig("syslog", {"syslog-format": "rfc5424", "syslog-facility": "23"}))
    validate(LogConfig("none", {"anything": "goes"}))
    with pytest.raises(NotSupported, match="TLS to a syslog server"):
        validate(LogConfig("syslog", {"syslog-tls-skip-verify": "1"}))


def test_sizes_of_log_files_are_decimal() -> None:
    """As dockerd's, unlike the sizes of memory; nothing and -1 are the default."""
    assert [_file_size(text) for text in ("10m", "1.5kB", "1GiB", "4096", "", "-1")] == [
        10_000_000,
        1_500,
        10**9,
        4096,
        0,
        0,
    ]
    with pytest.raises(InvalidArgument, match="invalid suffix: 'x'"):
        validate_values(LogConfig("json-file", {"max-size": "10x"}))


@pytest.mark.parametrize(("asked", "kept"), [(2, 2), (1, 1), (0, None), (-1, None), (None, None)])
def test_the_smallest_limit_of_processes(asked: int | None, kept: int | None) -> None:
    """One process is a limit; none, and less, is no limit."""
    host = msgspec.convert({"PidsLimit": asked}, HostConfig)
    assert validate_resources(host, 2, Features(frozenset(_V1), "0-1", "0")) == []
    assert host.pids_limit == kept
