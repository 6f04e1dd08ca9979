"""Update: other limits and another restart policy for a container that is there, whether it runs or not."""

import asyncio

import msgspec

from wherry.containers import records, restart
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.spec import resources as spec_resources
from wherry.containers.spec.devices import HostDevices
from wherry.containers.validate import restart_policy
from wherry.containers.validate_resources import MINIMUM_SHARES, validate_resources
from wherry.errors import Conflict, InvalidArgument, WherryError
from wherry.runtime.cgroups.features import features
from wherry.wire.containers import HostConfig, UpdateRequest

_HOST = msgspec.json.Decoder(HostConfig)


async def update(context: Context, container: Container, request: UpdateRequest) -> list[str]:
    """Change limits and policy; what the request does not name stays.

    Returns:
        Warnings.

    Raises:
        InvalidArgument, Conflict, KernelError: in dockerd's words; then nothing has changed.
    """
    record = container.record
    asked = HostConfig()
    for name in _RESOURCES:
        setattr(asked, name, getattr(request, name))
    warnings = validate_resources(asked, context.machine.cpus, features(), update=True)
    policy = request.restart_policy
    if policy is not None and policy.name:
        restart_policy(policy, record.config)
    async with container.lock:
        if container.status in ("removing", "dead"):
            raise Conflict(_refusal(container, 'Container is marked for removal and cannot be "update".'))
        host = _HOST.decode(msgspec.json.encode(record.host_config))
        _merge(container, host, asked)
        if 0 < asked.cpu_shares < MINIMUM_SHARES:
            raise InvalidArgument(_refusal(container, f"the minimum allowed cpu-shares is {MINIMUM_SHARES}"))
        if policy is not None and policy.name:
            if host.auto_remove and policy.name != "no":
                text = "Restart policy cannot be updated because AutoRemove is enabled for the container"
                raise Conflict(_refusal(container, text))
            host.restart_policy = policy
        limits = spec_resources.resources(asked, HostDevices())
        if request.memory_swap == -1:
            limits.setdefault("memory", {})["swap"] = -1
        if request.pids_limit is not None and request.pids_limit <= 0:
            limits["pids"] = {"limit": -1}
            host.pids_limit = 0
        before = spec_resources.resources(record.host_config, HostDevices())
        # the kernel first: it may refuse, and what is written down must be true
        if container.running and container.monitor is not None and limits:
            try:
                await container.monitor.request("update", resources=limits)
            except WherryError as error:
                await _put_back(container, before, limits)
                raise type(error)(_refusal(container, error.message), **error.facts) from None
        old, wanted = record.host_config, record.wanted
        record.host_config = host
        if old.restart_policy.name in ("", "no"):
            # nobody has kept a record of what was wanted so far
            record.wanted = "running" if container.running else "stopped"
        try:
            await asyncio.get_running_loop().run_in_executor(None, records.save, context.roots, record)
        except BaseException:
            record.host_config, record.wanted = old, wanted
            await _put_back(container, before, limits)
            raise
    if host.restart_policy.name in ("", "no") and await restart.cancel(container):
        await restart.give_up(container)
    context.event(container, "update")
    return warnings


_RESOURCES = tuple(name for name in UpdateRequest.__struct_fields__ if name != "restart_policy")


async def _put_back(container: Container, before: dict[str, dict[str, object]], tried: dict[str, object]) -> None:
    """Give a running container the limits that it had, as far as they were set: an update is whole or not at all."""
    known = {name: part for name, part in before.items() if name in tried}
    if known and container.running and container.monitor is not None:
        try:
            await container.monitor.request("update", resources=known)
        except WherryError:
            return


def _refusal(container: Container, text: str) -> str:
    return f"Cannot update container {container.id}: {text}"


def _merge(container: Container, host: HostConfig, asked: HostConfig) -> None:
    """Lay what is asked over what is."""
    for one, other, words in (
        ("cpu_period", "nano_cpus", "CPU Period cannot be updated as NanoCPUs"),
        ("cpu_quota", "nano_cpus", "CPU Quota cannot be updated as NanoCPUs"),
        ("nano_cpus", "cpu_period", "Nano CPUs cannot be updated as CPU Period"),
        ("nano_cpus", "cpu_quota", "Nano CPUs cannot be updated as CPU Quota"),
    ):
        if getattr(asked, one) > 0 and getattr(host, other) > 0:
            raise Conflict(_refusal(container, f"Conflicting options: {words} has already been set"))
    if asked.memory and not asked.memory_swap and host.memory_swap < asked.memory:
        text = (
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
        raise Conflict(_refusal(container, text))
    if asked.memory_swap > 0 and not asked.memory and not 0 < host.memory <= asked.memory_swap:
        text = "Minimum memoryswap limit should be larger than memory limit, see usage"
        raise InvalidArgument(_refusal(container, text))
    for name in _RESOURCES:
        if value := getattr(asked, name):
            setattr(host, name, value)
