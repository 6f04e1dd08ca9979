"""A container as a create request says it: `Config`, `HostConfig`, `NetworkingConfig`, and what create answers.

These are also what `container.json` keeps, so that `inspect` gives back what was asked.
"""

from typing import Any

from msgspec import Struct, field


class Healthcheck(Struct, omit_defaults=True):
    """`Config.Healthcheck`; durations in nanoseconds, 0 inherits."""

    test: list[str] | None = field(default=None, name="Test")
    interval: int = field(default=0, name="Interval")
    timeout: int = field(default=0, name="Timeout")
    start_period: int = field(default=0, name="StartPeriod")
    start_interval: int = field(default=0, name="StartInterval")
    retries: int = field(default=0, name="Retries")


class Config(Struct):
    """The portable part of a container's configuration (Docker's `container.Config`)."""

    hostname: str = field(default="", name="Hostname")
    domainname: str = field(default="", name="Domainname")
    user: str = field(default="", name="User")
    attach_stdin: bool = field(default=False, name="AttachStdin")
    attach_stdout: bool = field(default=False, name="AttachStdout")
    attach_stderr: bool = field(default=False, name="AttachStderr")
    exposed_ports: dict[str, Any] | None = field(default=None, name="ExposedPorts")
    tty: bool = field(default=False, name="Tty")
    open_stdin: bool = field(default=False, name="OpenStdin")
    stdin_once: bool = field(default=False, name="StdinOnce")
    env: list[str] | None = field(default=None, name="Env")
    cmd: list[str] | str | None = field(default=None, name="Cmd")
    healthcheck: Healthcheck | None = field(default=None, name="Healthcheck")
    args_escaped: bool | None = field(default=None, name="ArgsEscaped")
    image: str = field(default="", name="Image")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    working_dir: str = field(default="", name="WorkingDir")
    entrypoint: list[str] | str | None = field(default=None, name="Entrypoint")
    network_disabled: bool | None = field(default=None, name="NetworkDisabled")
    mac_address: str | None = field(default=None, name="MacAddress")
    on_build: list[str] | None = field(default=None, name="OnBuild")
    labels: dict[str, str] | None = field(default=None, name="Labels")
    stop_signal: str | None = field(default=None, name="StopSignal")
    stop_timeout: int | None = field(default=None, name="StopTimeout")
    shell: list[str] | None = field(default=None, name="Shell")


class PortBinding(Struct):
    """One host side of a published port; an empty `host_port` asks for a free one."""

    host_ip: str = field(default="", name="HostIp")
    host_port: str = field(default="", name="HostPort")


class RestartPolicy(Struct):
    """`no`, `always`, `unless-stopped`, `on-failure` (with a maximum count)."""

    name: str = field(default="no", name="Name")
    maximum_retry_count: int = field(default=0, name="MaximumRetryCount")


class LogConfig(Struct):
    """Log driver and its options; an empty type takes the engine's default."""

    type: str = field(default="", name="Type")
    config: dict[str, str] | None = field(default=None, name="Config")


class Device(Struct):
    """A host device given to the container; `permissions` of `rwm`."""

    path_on_host: str = field(default="", name="PathOnHost")
    path_in_container: str = field(default="", name="PathInContainer")
    cgroup_permissions: str = field(default="rwm", name="CgroupPermissions")


class Ulimit(Struct):
    """A resource limit by its short name (`nofile`)."""

    name: str = field(default="", name="Name")
    hard: int = field(default=0, name="Hard")
    soft: int = field(default=0, name="Soft")


class WeightDevice(Struct):
    """A block device's relative weight."""

    path: str = field(default="", name="Path")
    weight: int = field(default=0, name="Weight")


class ThrottleDevice(Struct):
    """A block device's rate limit (bytes or operations a second)."""

    path: str = field(default="", name="Path")
    rate: int = field(default=0, name="Rate")


class MountPoint(Struct, omit_defaults=True):
    """One `HostConfig.Mounts` entry (`--mount`)."""

    type: str = field(default="", name="Type")
    source: str = field(default="", name="Source")
    target: str = field(default="", name="Target")
    read_only: bool = field(default=False, name="ReadOnly")
    consistency: str = field(default="", name="Consistency")
    bind_options: dict[str, Any] | None = field(default=None, name="BindOptions")
    volume_options: dict[str, Any] | None = field(default=None, name="VolumeOptions")
    tmpfs_options: dict[str, Any] | None = field(default=None, name="TmpfsOptions")
    image_options: dict[str, Any] | None = field(default=None, name="ImageOptions")


class HostConfig(Struct):
    """The part of a container's configuration that belongs to this host (Docker's `container.HostConfig`)."""

    binds: list[str] | None = field(default=None, name="Binds")
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = field(default_factory=LogConfig, name="LogConfig")
    network_mode: str = field(default="default", name="NetworkMode")
    port_bindings: dict[str, list[PortBinding] | None] | None = field(default=None, name="PortBindings")
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy, name="RestartPolicy")
    auto_remove: bool = field(default=False, name="AutoRemove")
    volume_driver: str = field(default="", name="VolumeDriver")
    volumes_from: list[str] | None = field(default=None, name="VolumesFrom")
    console_size: list[int] | None = field(default=None, name="ConsoleSize")
    annotations: dict[str, str] | None = field(default=None, name="Annotations")
    cap_add: list[str] | None = field(default=None, name="CapAdd")
    cap_drop: list[str] | None = field(default=None, name="CapDrop")
    cgroupns_mode: str = field(default="", name="CgroupnsMode")
    dns: list[str] | None = field(default=None, name="Dns")
    dns_options: list[str] | None = field(default=None, name="DnsOptions")
    dns_search: list[str] | None = field(default=None, name="DnsSearch")
    extra_hosts: list[str] | None = field(default=None, name="ExtraHosts")
    group_add: list[str] | None = field(default=None, name="GroupAdd")
    ipc_mode: str = field(default="", name="IpcMode")
    cgroup: str = field(default="", name="Cgroup")
    links: list[str] | None = field(default=None, name="Links")
    oom_score_adj: int = field(default=0, name="OomScoreAdj")
    pid_mode: str = field(default="", name="PidMode")
    privileged: bool = field(default=False, name="Privileged")
    publish_all_ports: bool = field(default=False, name="PublishAllPorts")
    readonly_rootfs: bool = field(default=False, name="ReadonlyRootfs")
    security_opt: list[str] | None = field(default=None, name="SecurityOpt")
    storage_opt: dict[str, str] | None = field(default=None, name="StorageOpt")
    tmpfs: dict[str, str] | None = field(default=None, name="Tmpfs")
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = field(default="", name="UsernsMode")
    shm_size: int = field(default=0, name="ShmSize")
    sysctls: dict[str, str] | None = field(default=None, name="Sysctls")
    runtime: str = field(default="", name="Runtime")
    isolation: str = field(default="", name="Isolation")
    cpu_shares: int = field(default=0, name="CpuShares")
    memory: int = field(default=0, name="Memory")
    nano_cpus: int = field(default=0, name="NanoCpus")
    cgroup_parent: str = field(default="", name="CgroupParent")
    blkio_weight: int = field(default=0, name="BlkioWeight")
    blkio_weight_device: list[WeightDevice] | None = field(default=None, name="BlkioWeightDevice")
    blkio_device_read_bps: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadBps")
    blkio_device_write_bps: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteBps")
    blkio_device_read_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = field(default=0, name="CpuPeriod")
    cpu_quota: int = field(default=0, name="CpuQuota")
    cpu_realtime_period: int = field(default=0, name="CpuRealtimePeriod")
    cpu_realtime_runtime: int = field(default=0, name="CpuRealtimeRuntime")
    cpuset_cpus: str = field(default="", name="CpusetCpus")
    cpuset_mems: str = field(default="", name="CpusetMems")
    devices: list[Device] | None = field(default=None, name="Devices")
    device_cgroup_rules: list[str] | None = field(default=None, name="DeviceCgroupRules")
    device_requests: list[dict[str, Any]] | None = field(default=None, name="DeviceRequests")
    memory_reservation: int = field(default=0, name="MemoryReservation")
    memory_swap: int = field(default=0, name="MemorySwap")
    memory_swappiness: int | None = field(default=None, name="MemorySwappiness")
    oom_kill_disable: bool | None = field(default=None, name="OomKillDisable")
    pids_limit: int | None = field(default=None, name="PidsLimit")
    ulimits: list[Ulimit] | None = field(default=None, name="Ulimits")
    cpu_count: int = field(default=0, name="CpuCount")
    cpu_percent: int = field(default=0, name="CpuPercent")
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")
    mounts: list[MountPoint] | None = field(default=None, name="Mounts")
    masked_paths: list[str] | None = field(default=None, name="MaskedPaths")
    readonly_paths: list[str] | None = field(default=None, name="ReadonlyPaths")
    init: bool | None = field(default=None, name="Init")


class CreateRequest(Config):
    """The body of `POST /containers/create`: a `Config` with two more keys."""

    host_config: HostConfig | None = field(default=None, name="HostConfig")
    networking_config: dict[str, Any] | None = field(default=None, name="NetworkingConfig")


class UpdateRequest(Struct):
    """The body of `POST /containers/{id}/update`: limits, of which 0 and "" mean no change, and a restart policy."""

    restart_policy: RestartPolicy | None = field(default=None, name="RestartPolicy")
    cpu_shares: int = field(default=0, name="CpuShares")
    memory: int = field(default=0, name="Memory")
    nano_cpus: int = field(default=0, name="NanoCpus")
    blkio_weight: int = field(default=0, name="BlkioWeight")
    blkio_weight_device: list[WeightDevice] | None = field(default=None, name="BlkioWeightDevice")
    blkio_device_read_bps: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadBps")
    blkio_device_write_bps: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteBps")
    blkio_device_read_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = field(default=0, name="CpuPeriod")
    cpu_quota: int = field(default=0, name="CpuQuota")
    cpu_realtime_period: int = field(default=0, name="CpuRealtimePeriod")
    cpu_realtime_runtime: int = field(default=0, name="CpuRealtimeRuntime")
    cpuset_cpus: str = field(default="", name="CpusetCpus")
    cpuset_mems: str = field(default="", name="CpusetMems")
    memory_reservation: int = field(default=0, name="MemoryReservation")
    memory_swap: int = field(default=0, name="MemorySwap")
    memory_swappiness: int | None = field(default=None, name="MemorySwappiness")
    pids_limit: int | None = field(default=None, name="PidsLimit")


class CreateResponse(Struct):
    """What create answers: the id and what was not as asked."""

    id: str = field(name="Id")
    warnings: list[str] = field(default_factory=list, name="Warnings")


class CheckpointCreate(Struct):
    """The body of `POST /containers/{id}/checkpoints`."""

    checkpoint_id: str = field(default="", name="CheckpointID")
    checkpoint_dir: str = field(default="", name="CheckpointDir")
    exit: bool = field(default=False, name="Exit")


class ExecConfig(Struct):
    """The body of `POST /containers/{id}/exec`."""

    attach_stdin: bool = field(default=False, name="AttachStdin")
    attach_stdout: bool = field(default=False, name="AttachStdout")
    attach_stderr: bool = field(default=False, name="AttachStderr")
    detach_keys: str = field(default="", name="DetachKeys")
    tty: bool = field(default=False, name="Tty")
    env: list[str] | None = field(default=None, name="Env")
    cmd: list[str] | None = field(default=None, name="Cmd")
    privileged: bool = field(default=False, name="Privileged")
    user: str = field(default="", name="User")
    working_dir: str = field(default="", name="WorkingDir")
    console_size: list[int] | None = field(default=None, name="ConsoleSize")
    detach: bool = field(default=False, name="Detach")


class ExecStart(Struct):
    """The body of `POST /exec/{id}/start`."""

    detach: bool = field(default=False, name="Detach")
    tty: bool = field(default=False, name="Tty")
    console_size: list[int] | None = field(default=None, name="ConsoleSize")


class AttachOptions(Struct):
    """The query of `POST /containers/{id}/attach`; `detach_keys` as in `ctrl-p,ctrl-q`, empty: the default."""

    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    detach_keys: str = ""
    multiplexed: bool = True
    """Without a terminal, both outputs come in frames that tell them apart."""


class LogOptions(Struct):
    """The query of `GET /containers/{id}/logs`; `since` and `until` as the client sent them.

    `chunked` is not of the query: the answer's head says so, and the body is to be written as HTTP's chunks.
    """

    follow: bool = False
    stdout: bool = False
    stderr: bool = False
    since: str = ""
    until: str = ""
    timestamps: bool = False
    tail: str = "all"
    details: bool = False
    chunked: bool = False
