"""OCI resources whose files are the same in both layouts of cgroups."""

from wherry.runtime.cgroups.limits import Write, number, section, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def cpuset(cpu: "Mapping[str, Any]") -> "list[Write]":
    """On which processors and memory nodes it runs."""
    found = [(member, text(cpu, member, "cpu")) for member in ("cpus", "mems")]
    return [Write("cpuset", f"cpuset.{member}", value, f"cpuset {member}") for member, value in found if value]


def pids(asked: "Mapping[str, Any]") -> "list[Write]":
    """How many processes there may be."""
    limit = number(asked, "limit", "pids")
    if limit is None or limit == 0:
        return []
    return [Write("pids", "pids.max", limit if limit > 0 else "max", "the pids limit")]


def rdma(asked: "Mapping[str, Any]") -> "list[Write]":
    """How many handles and objects of RDMA devices."""
    found: list[Write] = []
    for name in asked:
        item = section(asked, name)
        parts = [name]
        for member, key in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            value = number(item, member, "rdma")
            if value is not None:
                parts.append(f"{key}={value}")
        found.append(Write("rdma", "rdma.max", " ".join(parts), "an RDMA limit"))
    return found


def device(item: "Mapping[str, Any]") -> str:
    """`major:minor` of a block device entry."""
    return f"{number(item, 'major', 'blockIO') or 0}:{number(item, 'minor', 'blockIO') or 0}"
