"""daemon.json and wherryd's flags: dockerd's keys, joined, and nothing unknown."""

import json
from pathlib import Path

import pytest

from wherry.config import EngineConfig, read_file
from wherry.daemon import configure
from wherry.errors import InvalidArgument
from wherry.paths import Roots


def test_flags_and_file_are_joined(tmp_path: Path) -> None:
    """Each sets what the other leaves open."""
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"log-level": "warn", "dns": ["10.0.0.1"]}))
    config = configure(
        ["--config-file", str(file), "--data-root", str(tmp_path / "d"), "--live-restore=false", "--experimental"]
    )
    assert (config.log_level, config.dns, config.live_restore) == ("warn", ["10.0.0.1"], False)
    assert config.experimental
    assert config.roots.data == str(tmp_path / "d")


def test_one_setting_in_both_is_refused(tmp_path: Path) -> None:
    """As dockerd: nobody has to guess which wins."""
    file = tmp_path / "daemon.json"
    file.write_text('{"bip": "10.1.0.1/24"}')
    with pytest.raises(InvalidArgument, match="specified both as a flag and in the configuration file: bip"):
        configure(["--config-file", str(file), "--bip", "10.2.0.1/24"])


@pytest.mark.parametrize(
    "text",
    ['{"no-such-key": 1}', '{"bip": 5}', '{"dns": "10.0.0.1"}', '{"dns": [1]}', "[]", "{", '{"log-level": "loud"}'],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """Unknown keys, wrong types and broken JSON name the file."""
    file = tmp_path / "daemon.json"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"daemon\.json"):
        configure(["--config-file", str(file)])


@pytest.mark.parametrize("flags", [["-s", "btrfs"], ["--log-driver", "x"]])
def test_what_is_not_there_yet_is_refused(flags: list[str]) -> None:
    """A setting that is accepted works; the others are refused."""
    with pytest.raises(InvalidArgument):
        configure(flags)


def test_a_named_file_must_be_there_and_the_default_need_not(tmp_path: Path) -> None:
    """An empty file is no settings."""
    with pytest.raises(InvalidArgument, match="no such file"):
        read_file(str(tmp_path / "absent"), required=True)
    assert read_file(str(tmp_path / "absent"), required=False) == {}
    (tmp_path / "empty").write_text(" \n")
    assert read_file(str(tmp_path / "empty"), required=True) == {}


def test_engines_with_other_roots_share_no_name(tmp_path: Path) -> None:
    """Bridge, table and cgroup are named after the data root; a bridge's name fits the kernel's 15 characters."""
    first, second, default = Roots(str(tmp_path / "1")), Roots(str(tmp_path / "2")), Roots()
    assert len({first.scope, second.scope, default.scope}) == 3
    assert len({first.bridge, second.bridge, default.bridge}) == 3
    assert max(len(r.bridge) for r in (first, second, default)) <= 15
    assert EngineConfig().roots.data == default.data
