"""`-v` and `--mount type=bind`, read and refused."""

from pathlib import Path

import pytest

from wherry.containers.binds import parse_binds
from wherry.errors import InvalidArgument, NotSupported
from wherry.wire.containers import HostConfig, MountPoint


def test_forms_of_a_bind() -> None:
    """Source and target are normalised; options set access and propagation; SELinux suffixes are accepted."""
    binds = parse_binds(HostConfig(binds=["/a/../b:/x/", "/c:/y:ro", "/d:/z:rshared,Z"]))
    assert [(b.source, b.target, b.read_only, b.propagation) for b in binds] == [
        ("/b", "/x", False, "rprivate"),
        ("/c", "/y", True, "rprivate"),
        ("/d", "/z", False, "rshared"),
    ]
    assert binds[1].mount().options == ("rbind", "rprivate", "ro")
    assert binds[1].point()["RW"] is False


@pytest.mark.parametrize(
    "text",
    ["a", ":/x", "/a:", "/a:x", "/a:/", "/a:/x:nope", "/a:/x:ro,rw", "/a:/x:shared,slave", "/a:/x:ro:more"],
)
def test_malformed_binds_are_refused(text: str) -> None:
    """Each is an error that quotes what was given."""
    with pytest.raises(InvalidArgument, match="invalid"):
        parse_binds(HostConfig(binds=[text]))


def test_named_volumes_are_refused_until_there_are_some() -> None:
    """A name is never taken for a directory of the host."""
    with pytest.raises(NotSupported, match="named volumes are not supported yet"):
        parse_binds(HostConfig(binds=["data:/x"]))
    with pytest.raises(NotSupported, match="volumes are not supported yet"):
        parse_binds(HostConfig(binds=["/x"]))


def test_one_target_is_mounted_once() -> None:
    """Two binds, or a bind and a tmpfs, on one target are refused in Docker's words."""
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        parse_binds(HostConfig(binds=["/a:/x", "/b:/x/"]))
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        parse_binds(HostConfig(binds=["/a:/x"], mounts=[MountPoint(type="tmpfs", target="/x")]))


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (MountPoint(type="bind", target="/x"), "field Source must not be empty"),
        (MountPoint(type="bind", source="/a"), "field Target must not be empty"),
        (MountPoint(type="bind", source="a", target="/x"), "mount path must be absolute"),
        (MountPoint(type="bind", source="/a", target="/x", bind_options={"Propagation": "odd"}), "invalid propagation"),
        (MountPoint(type="odd", source="/a", target="/x"), "mount type unknown"),
    ],
)
def test_malformed_mounts_are_refused(point: MountPoint, words: str) -> None:
    """Errors are dockerd's."""
    with pytest.raises(InvalidArgument, match=words):
        parse_binds(HostConfig(mounts=[point]))


def test_a_missing_source_is_made_for_v_and_refused_for_mount(tmp_path: Path) -> None:
    """As docker: `-v` makes the directory, `--mount` does not."""
    missing = tmp_path / "deep" / "er"
    mounted = parse_binds(HostConfig(mounts=[MountPoint(type="bind", source=str(missing), target="/x")]))[0]
    with pytest.raises(InvalidArgument, match="bind source path does not exist"):
        mounted.prepare()
    parse_binds(HostConfig(binds=[f"{missing}:/x"]))[0].prepare()
    assert missing.is_dir()
