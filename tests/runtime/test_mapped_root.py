"""Layers that are shown through id maps: what is said where that cannot be."""

from pathlib import Path

import pytest

from wherry.errors import KernelError, NotSupported
from wherry.oci.mount import Mount
from wherry.runtime.mapped_root import mapped_overlay

pytestmark = pytest.mark.root

MAP = "0 200000 65536"


def overlay(lower: Path | str, directory: Path) -> Mount:
    """The overlay of a container whose only layer is `lower`."""
    for name in ("upper", "work", "place"):
        (directory / name).mkdir()
    options = (f"lowerdir={lower}", f"upperdir={directory}/upper", f"workdir={directory}/work")
    return Mount("/", "overlay", "overlay", options)


def test_a_file_system_without_id_mapped_mounts_is_named(tmp_path: Path) -> None:
    """The kernel says only EINVAL (mount_setattr(2)); the user learns what a user namespace needs."""
    mount = overlay("/proc/sys", tmp_path)
    with pytest.raises(NotSupported, match="a user namespace needs id-mapped mounts, which this kernel or the file"):
        mapped_overlay(mount, str(tmp_path / "place"), MAP, MAP)


def test_another_failure_is_the_kernels_own(tmp_path: Path) -> None:
    """A layer that is missing has nothing to do with id-mapped mounts."""
    mount = overlay(tmp_path / "gone", tmp_path)
    with pytest.raises(KernelError, match="no such file or directory"):
        mapped_overlay(mount, str(tmp_path / "place"), MAP, MAP)
