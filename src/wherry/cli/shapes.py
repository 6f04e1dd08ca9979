"""Docker's structs behind its JSON: which fields there are, in their order, with Go's names and zero values.

`inspect --format` is executed on them first, as Docker does it: a field that the JSON leaves out prints as its zero
value, `{{.State}}` prints as a struct, `{{if .State.Health}}` is false where there is none. What they do not know is
then looked for in the JSON itself.

A shape is text, one field a word: `Name` (JSON key) or `GoName=JsonKey`, then what it is:
`:s` text, `:i` number, `:b` truth, `:l` list, `:m` map, `:t` time, `:n` pointer or interface (nil);
`:S.Shape` struct, `:P.Shape` pointer to one, `:L.Shape` list of them (`:Lp` of pointers), `:M.Shape` map of them,
`:Q.Shape` map of pointers, `:T.Shape` map of lists of them.
"""

from wherry.cli.govalues import Moment, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHAPES = {
    "container.InspectResponse": (
        "ID=Id:s Created:s Path:s Args:l State:P.container.State Image:s ResolvConfPath:s HostnamePath:s HostsPath:s"
        " LogPath:s Name:s RestartCount:i Driver:s Platform:s ImageManifestDescriptor:n MountLabel:s ProcessLabel:s"
        " AppArmorProfile:s ExecIDs:l HostConfig:P.container.HostConfig GraphDriver:S.storage.DriverData SizeRw:n"
        " SizeRootFs:n Mounts:L.container.MountPoint Config:P.container.Config"
        " NetworkSettings:P.container.NetworkSettings"
    ),
    "container.State": (
        "Status:s Running:b Paused:b Restarting:b OOMKilled:b Dead:b Pid:i ExitCode:i Error:s StartedAt:s FinishedAt:s"
        " Health:P.container.Health"
    ),
    "container.Health": "Status:s FailingStreak:i Log:Lp.container.HealthcheckResult",
    "container.HealthcheckResult": "Start:s End:s ExitCode:i Output:s",
    "storage.DriverData": "Data:m Name:s",
    "container.MountPoint": "Type:s Name:s Source:s Destination:s Driver:s Mode:s RW:b Propagation:s",
    "container.Config": (
        "Hostname:s Domainname:s User:s AttachStdin:b AttachStdout:b AttachStderr:b ExposedPorts:m Tty:b OpenStdin:b"
        " StdinOnce:b Env:l Cmd:l Healthcheck:P.container.HealthConfig ArgsEscaped:b Image:s Volumes:m WorkingDir:s"
        " Entrypoint:l NetworkDisabled:b MacAddress:s OnBuild:l Labels:m StopSignal:s StopTimeout:n Shell:l"
    ),
    "container.HealthConfig": "Test:l Interval:i Timeout:i StartPeriod:i StartInterval:i Retries:i",
    "container.HostConfig": (
        "Binds:l ContainerIDFile:s LogConfig:S.container.LogConfig NetworkMode:s PortBindings:T.nat.PortBinding"
        " RestartPolicy:S.container.RestartPolicy AutoRemove:b VolumeDriver:s VolumesFrom:l ConsoleSize:l Annotations:m"
        " CapAdd:l CapDrop:l CgroupnsMode:s DNS=Dns:l DNSOptions=DnsOptions:l DNSSearch=DnsSearch:l ExtraHosts:l"
        " GroupAdd:l IpcMode:s Cgroup:s Links:l OomScoreAdj:i PidMode:s Privileged:b PublishAllPorts:b"
        " ReadonlyRootfs:b SecurityOpt:l StorageOpt:m Tmpfs:m UTSMode:s UsernsMode:s ShmSize:i Sysctls:m Runtime:s"
        " Isolation:s CPUShares=CpuShares:i Memory:i NanoCPUs=NanoCpus:i CgroupParent:s BlkioWeight:i"
        " BlkioWeightDevice:l BlkioDeviceReadBps:l BlkioDeviceWriteBps:l BlkioDeviceReadIOps:l BlkioDeviceWriteIOps:l"
        " CPUPeriod=CpuPeriod:i CPUQuota=CpuQuota:i CPURealtimePeriod=CpuRealtimePeriod:i"
        " CPURealtimeRuntime=CpuRealtimeRuntime:i CpusetCpus:s CpusetMems:s Devices:L.container.DeviceMapping"
        " DeviceCgroupRules:l DeviceRequests:l KernelMemory:i KernelMemoryTCP:i MemoryReservation:i MemorySwap:i"
        " MemorySwappiness:n OomKillDisable:n PidsLimit:n Ulimits:Lp.container.Ulimit CPUCount=CpuCount:i"
        " CPUPercent=CpuPercent:i IOMaximumIOps:i IOMaximumBandwidth:i Mounts:L.mount.Mount MaskedPaths:l"
        " ReadonlyPaths:l Init:n"
    ),
    "container.LogConfig": "Type:s Config:m",
    "container.RestartPolicy": "Name:s MaximumRetryCount:i",
    "container.DeviceMapping": "PathOnHost:s PathInContainer:s CgroupPermissions:s",
    "container.Ulimit": "Name:s Hard:i Soft:i",
    "mount.Mount": (
        "Type:s Source:s Target:s ReadOnly:b Consistency:s BindOptions:n VolumeOptions:n ImageOptions:n TmpfsOptions:n"
    ),
    "nat.PortBinding": "HostIP=HostIp:s HostPort:s",
    "container.NetworkSettings": (
        "Bridge:s SandboxID:s SandboxKey:s Ports:T.nat.PortBinding HairpinMode:b LinkLocalIPv6Address:s"
        " LinkLocalIPv6PrefixLen:i SecondaryIPAddresses:l SecondaryIPv6Addresses:l EndpointID:s Gateway:s"
        " GlobalIPv6Address:s GlobalIPv6PrefixLen:i IPAddress:s IPPrefixLen:i IPv6Gateway:s MacAddress:s"
        " Networks:Q.network.EndpointSettings"
    ),
    "network.EndpointSettings": (
        "IPAMConfig:P.network.EndpointIPAMConfig Links:l Aliases:l MacAddress:s DriverOpts:m GwPriority:i NetworkID:s"
        " EndpointID:s Gateway:s IPAddress:s IPPrefixLen:i IPv6Gateway:s GlobalIPv6Address:s GlobalIPv6PrefixLen:i"
        " DNSNames:l"
    ),
    "network.EndpointIPAMConfig": "IPv4Address:s IPv6Address:s LinkLocalIPs:l",
    "image.InspectResponse": (
        "ID=Id:s RepoTags:l RepoDigests:l Parent:s Comment:s Created:s DockerVersion:s Author:s"
        " Config:P.container.Config Architecture:s Variant:s Os:s OsVersion:s Size:i VirtualSize:i"
        " GraphDriver:S.storage.DriverData RootFS:S.image.RootFS Metadata:S.image.Metadata Descriptor:n Manifests:l"
    ),
    "image.RootFS": "Type:s Layers:l",
    "image.Metadata": "LastTagTime:t",
    "network.Inspect": (
        "Name:s ID=Id:s Created:t Scope:s Driver:s EnableIPv4:b EnableIPv6:b IPAM:S.network.IPAM Internal:b"
        " Attachable:b Ingress:b ConfigFrom:S.network.ConfigReference ConfigOnly:b"
        " Containers:M.network.EndpointResource Options:m Labels:m Peers:l Services:m"
    ),
    "network.ConfigReference": "Network:s",
    "network.IPAM": "Driver:s Options:m Config:L.network.IPAMConfig",
    "network.IPAMConfig": "Subnet:s IPRange:s Gateway:s AuxAddress=AuxiliaryAddresses:m",
    "volume.Volume": (
        "ClusterVolume:n CreatedAt:s Driver:s Labels:m Mountpoint:s Name:s Options:m Scope:s Status:m"
        " UsageData:P.volume.UsageData"
    ),
    "volume.UsageData": "RefCount:i Size:i",
    "network.EndpointResource": "Name:s EndpointID:s MacAddress:s IPv4Address:s IPv6Address:s",
}
_ZEROS: "dict[str, Any]" = {"s": "", "t": Moment("0001-01-01T00:00:00Z"), "i": 0, "b": False, "n": None}


def shaped(name: str, raw: "dict[str, Any]", *, pointer: bool = False) -> Struct:
    """A JSON object as the struct `name`."""
    fields: dict[str, tuple[str, Any]] = {}
    for word in _SHAPES[name].split():
        names, _, kind = word.partition(":")
        go_name, _, key = names.partition("=")
        key = key or go_name
        fields[go_name] = (key, _value(kind, raw.get(key)))
    return Struct(name, fields, raw, pointer)


def _value(kind: str, value: "Any") -> "Any":
    letter, _, shape = kind.partition(".")
    if not shape:
        if value is None:
            return [] if kind == "l" else {} if kind == "m" else _ZEROS[kind]
        return Moment(value) if kind == "t" else value
    if letter == "S":
        return shaped(shape, value or {})
    if letter == "P":
        return None if value is None else shaped(shape, value, pointer=True)
    if letter in ("L", "Lp"):
        return [shaped(shape, item, pointer=letter == "Lp") for item in value or ()]
    if letter == "T":
        return {key: [shaped(shape, item) for item in items or ()] for key, items in (value or {}).items()}
    return {key: shaped(shape, item or {}, pointer=letter == "Q") for key, item in (value or {}).items()}
