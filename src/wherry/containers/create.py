"""Create: check the request, join it with the image, make the read-write layer, and write `container.json`."""

import asyncio
import os

from wherry.config import EngineConfig
from wherry.config_checks import shm_bytes
from wherry.containers import clock, data, links, merge, names, priming, records, userns, workdir
from wherry.containers.context import Context
from wherry.containers.model import Container, Record
from wherry.containers.validate import validate
from wherry.errors import InvalidArgument, WherryError
from wherry.oci.isolation import READONLY_PATHS, masked_paths
from wherry.proxy import labels
from wherry.store.atomic import fsync_dir
from wherry.wire.containers import CreateRequest, CreateResponse, HostConfig, Ulimit


async def create(context: Context, request: CreateRequest, name: str | None) -> CreateResponse:
    """Create a container.

    Args:
        request: the body of Docker's create call.
        name: the wanted name, or None for one of ours.

    Returns:
        The id, and warnings about what cannot be had on this host.

    Raises:
        InvalidArgument, ImageNotFound, NameInUse, NotSupported: in dockerd's words; nothing is left behind.
    """
    wanted = names.check(name) if name else None
    host = request.host_config or HostConfig()
    if not request.image:
        raise InvalidArgument(
            "no image specified" if request.cmd else "Config cannot be empty in order to create a container"
        )
    image = context.resolve_image(request.image)
    config = merge.merge(request, merge.settings_of(image.raw_config))
    host.cgroup_parent = host.cgroup_parent or context.config.cgroup_parent
    warnings = validate(config, host, context.machine)
    workdir.check(context, image.chain_ids, config.working_dir)
    ids = userns.resolve(host, context.config.userns_remap)
    points = data.gather(context, config, host)
    service = labels.parse(labels.own_labels(request.labels))
    if service is not None:
        context.check_service(service)
    priming.soon()
    id_ = names.new_id()
    chosen = _reserve(context, wanted, id_)
    try:
        _fill_defaults(context, host)
        _name_by_id(context, host)
        config.hostname = config.hostname or _hostname(host, id_)
        words = merge.command(config)
        record = Record(
            id=id_,
            name=chosen,
            created=clock.rfc3339(clock.now()),
            image=image.id,
            image_name=request.image,
            chain_ids=list(image.chain_ids),
            config=config,
            host_config=host,
            path=words[0],
            args=words[1:],
            networking=request.networking_config,
            mounts=points,
            userns=ids,
            service=service,
        )
        links.settle(context.registry, record)
        context.check_networks(record)
        container = await _make(context, record)
    except BaseException:
        context.registry.unreserve(chosen)
        raise
    context.event(container, "create")
    return CreateResponse(id=id_, warnings=warnings)


async def _make(context: Context, record: Record) -> Container:
    """Put a container, and the volumes that are made with it, on the disk and into the registry."""
    loop = asyncio.get_running_loop()
    with context.claims.hold(data.names_of(record)):
        staged = await data.stage(context, record)
        try:
            await loop.run_in_executor(None, _write, context, record)
        except BaseException:
            data.drop(context, record, staged)
            raise
        try:
            await data.settle(context, record, staged)
        except BaseException:
            context.trash(context.roots.container(record.id))
            data.drop(context, record, staged)
            raise
        container = Container(record)
        context.registry.add(container)
    return container


def _reserve(context: Context, wanted: str | None, id_: str) -> str:
    if wanted is not None:
        context.registry.reserve(wanted, id_)
        return wanted
    attempt = 0
    while context.registry.named(chosen := names.generate(attempt)):
        attempt += 1
    context.registry.reserve(chosen, id_)
    return chosen


def _fill_defaults(context: Context, host: HostConfig) -> None:
    config = context.config
    host.shm_size = host.shm_size or shm_bytes(config.default_shm_size)
    host.ipc_mode = host.ipc_mode or config.default_ipc_mode or "private"
    host.cgroupns_mode = host.cgroupns_mode or config.default_cgroupns_mode
    host.cgroupns_mode = host.cgroupns_mode or ("private" if context.machine.cgroup_version == "v2" else "host")
    _fill_ulimits(config, host)
    host.log_config.type = host.log_config.type or config.log_driver
    if host.log_config.config is None:
        host.log_config.config = dict(config.log_opts)
    host.restart_policy.name = host.restart_policy.name or "no"
    host.network_mode = "bridge" if host.network_mode in ("", "default") else host.network_mode
    host.runtime = host.runtime or config.default_runtime or "runc"
    labelled = any(option.split("=")[0] == "label" for option in host.security_opt or [])
    if not labelled and (host.privileged or "host" in (host.pid_mode, host.ipc_mode)):
        host.security_opt = [*(host.security_opt or []), "label=disable"]
    if not host.privileged:
        unconfined = "systempaths=unconfined" in (host.security_opt or [])
        if host.masked_paths is None:
            host.masked_paths = [] if unconfined else masked_paths(context.machine.cpus)
        if host.readonly_paths is None:
            host.readonly_paths = [] if unconfined else list(READONLY_PATHS)
    if host.init is None and config.init:
        host.init = True
    if host.console_size is None:
        host.console_size = [0, 0]
    host.oom_kill_disable = bool(host.oom_kill_disable)


def _fill_ulimits(config: EngineConfig, host: HostConfig) -> None:
    """Add the limits of `default-ulimits` that the container does not set itself."""
    own = {limit.name for limit in host.ulimits or []}
    added = [
        Ulimit(name=name, hard=limit["Hard"], soft=limit["Soft"])
        for name, limit in config.default_ulimits.items()
        if name not in own
    ]
    if added:
        host.ulimits = [*(host.ulimits or []), *added]


def _name_by_id(context: Context, host: HostConfig) -> None:
    """Of whom the namespaces are shared is said by id: a name may be another's tomorrow.

    Raises:
        InvalidArgument: there is no such container, where dockerd looks for its labels now; else the start says so.
    """
    labelled = "label=disable" not in (host.security_opt or [])
    for mode in ("network_mode", "pid_mode", "ipc_mode"):
        kind, _, reference = getattr(host, mode).partition(":")
        if kind != "container":
            continue
        try:
            setattr(host, mode, f"container:{context.registry.find(reference).id}")
        except WherryError as error:
            if labelled and mode != "network_mode":
                raise InvalidArgument(error.message) from None


def _hostname(host: HostConfig, id_: str) -> str:
    if host.network_mode == "host" or host.uts_mode == "host":
        return os.uname().nodename
    return id_[:12]


def _write(context: Context, record: Record) -> None:
    directory = context.roots.container(record.id)
    os.mkdir(directory, 0o710)
    try:
        os.mkdir(f"{directory}/upper", 0o755)
        # by this file programs find out that they are in a container; it is no change of the container's
        os.close(os.open(f"{directory}/upper/.dockerenv", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))
        os.mkdir(f"{directory}/work", 0o700)
        records.save(context.roots, record)
        fsync_dir(context.roots.containers)
    except BaseException:
        context.trash(directory)
        raise
