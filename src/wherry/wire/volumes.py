"""What clients send to make a volume."""

from msgspec import Struct, field


class VolumeCreate(Struct):
    """The body of `POST /volumes/create`."""

    name: str = field(default="", name="Name")
    driver: str = field(default="", name="Driver")
    driver_opts: dict[str, str] | None = field(default=None, name="DriverOpts")
    labels: dict[str, str] | None = field(default=None, name="Labels")
    cluster: dict[str, object] | None = field(default=None, name="ClusterVolumeSpec")
