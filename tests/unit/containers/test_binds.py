"""`-v` and `--mount`, read and refused."""

from pathlib import Path

import pytest

from wherry.containers.binds import parse, parse_volumes_from
from wherry.containers.data import prepare_bind
from wherry.errors import InvalidArgument, NotSupported
from wherry.wire.containers import HostConfig, MountPoint


def test_forms_of_a_bind() -> None:
    """Source and target are normalised; options set access and propagation; SELinux suffixes are accepted."""
    binds = parse(HostConfig(binds=["/a/../b:/x/", "/c:/y:ro", "/d:/z:rshared,Z"]))
    assert [(b.source, b.target, b.read_only, b.propagation) for b in binds] == [
        ("/b", "/x", False, "rprivate"),
        ("/c", "/y", True, "rprivate"),
        ("/d", "/z", False, "rshared"),
    ]
    assert binds[1].bound("/c").options == ("rbind", "rprivate", "rro")
    assert binds[1].shown("")["RW"] is False


@pytest.mark.parametrize(
    "text",
    ["a", ":/x", "/a:", "/a:x", "/a:/", "/a:/x:nope", "/a:/x:ro,rw", "/a:/x:shared,slave", "/a:/x:ro:more"],
)
def test_malformed_binds_are_refused(text: str) -> None:
    """Each is an error that quotes what was given."""
    with pytest.raises(InvalidArgument, match="invalid"):
        parse(HostConfig(binds=[text]))


def test_forms_of_a_volume() -> None:
    """A name is a volume's, a path alone is one that nobody named; what is shown is what dockerd shows."""
    points = parse(HostConfig(binds=["data:/x", "data2:/y:ro,z", "data3:/w:nocopy", "/z"]))
    assert [(p.type, p.name, p.target, p.mode, p.read_only, p.copy, p.anonymous) for p in points] == [
        ("volume", "data", "/x", "z", False, True, False),
        ("volume", "data2", "/y", "ro,z", True, True, False),
        ("volume", "data3", "/w", "nocopy", False, False, False),
        ("volume", "", "/z", "", False, True, True),
    ]
    assert points[0].shown("/v/data/_data") == {
        "Type": "volume",
        "Name": "data",
        "Source": "/v/data/_data",
        "Destination": "/x",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }


def test_volume_of_mount() -> None:
    """`--mount type=volume` brings labels, driver options, a subpath; a subpath is not filled from the image."""
    options = {
        "NoCopy": False,
        "Labels": {"a": "b"},
        "Subpath": "x/./y",
        "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}},
    }
    point = parse(HostConfig(mounts=[MountPoint(type="volume", source="data", target="/x", volume_options=options)]))[0]
    assert (point.name, point.subpath, point.copy, point.labels) == ("data", "x/y", False, {"a": "b"})
    assert point.options == {"type": "tmpfs", "device": "tmpfs"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x:/a", "volume name is too short"),
        ("a/b:/a", "includes invalid characters for a local volume name"),
        ("../up:/a", "includes invalid characters"),
        ("..:/a", "includes invalid characters"),
        ("a\n:/a", "includes invalid characters"),
        ("n" * 300 + ":/a", "too long"),
        ("data:/a:rshared", "field BindOptions must not be specified"),
        ("data:a", "mount path must be absolute"),
        ("data:/", "destination can't be '/'"),
        ("data:/x:nocopy,nocopy", "invalid mode"),
    ],
)
def test_names_that_are_none(text: str, words: str) -> None:
    """No name becomes a path that is not below our own directory."""
    with pytest.raises(InvalidArgument, match=words):
        parse(HostConfig(binds=[text]))


@pytest.mark.parametrize("subpath", ["..", "../x", "/x", "a/../../b"])
def test_subpaths_that_lead_out(subpath: str) -> None:
    """A subpath is below the volume, by its words already."""
    mount = MountPoint(type="volume", source="data", target="/x", volume_options={"Subpath": subpath})
    with pytest.raises(InvalidArgument, match="subpath must be a relative path within the volume"):
        parse(HostConfig(mounts=[mount]))


def test_volumes_from() -> None:
    """The container, and how its volumes are taken over."""
    assert parse_volumes_from("c") == ("c", "")
    assert parse_volumes_from("c:ro,z") == ("c", "ro,z")
    for text, words in (("", "cannot be an empty string"), ("c:nope", "invalid mode: nope")):
        with pytest.raises(InvalidArgument, match=words):
            parse_volumes_from(text)


def test_one_target_is_mounted_once() -> None:
    """Two binds, or a bind and a tmpfs, on one target are refused in Docker's words."""
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        parse(HostConfig(binds=["/a:/x", "/b:/x/"]))
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        parse(HostConfig(binds=["/a:/x"], mounts=[MountPoint(type="tmpfs", target="/x")]))


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
        parse(HostConfig(mounts=[point]))


def test_a_missing_source_is_made_for_v_and_refused_for_mount(tmp_path: Path) -> None:
    """As docker: `-v` makes the directory, `--mount` only when it is told."""
    missing = tmp_path / "deep" / "er"
    mount = MountPoint(type="bind", source=str(missing), target="/x")
    with pytest.raises(InvalidArgument, match="bind source path does not exist"):
        prepare_bind(parse(HostConfig(mounts=[mount]))[0])
    prepare_bind(parse(HostConfig(binds=[f"{missing}:/x"]))[0])
    assert missing.is_dir()
    missing.rmdir()
    mount.bind_options = {"CreateMountpoint": True}
    prepare_bind(parse(HostConfig(mounts=[mount]))[0])
    assert missing.is_dir()


def test_what_is_for_another_kind_is_refused() -> None:
    """Options of one kind of mount mean nothing for another."""
    for mount in (
        MountPoint(type="bind", source="/a", target="/x", volume_options={"NoCopy": True}),
        MountPoint(type="volume", source="data", target="/x", bind_options={"Propagation": "shared"}),
        MountPoint(type="tmpfs", target="/x", volume_options={"NoCopy": True}),
    ):
        with pytest.raises(InvalidArgument, match="Options must not be specified"):
            parse(HostConfig(mounts=[mount]))
    with pytest.raises(NotSupported, match="mounts of type cluster"):
        parse(HostConfig(mounts=[MountPoint(type="cluster", source="a", target="/x")]))
