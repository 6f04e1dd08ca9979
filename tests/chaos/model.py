"""What each object of a chaos run must be."""

import dataclasses
from typing import Any

ABSENT = "absent"
LIVE = frozenset({"running", "restarting"})


@dataclasses.dataclass
class Box:
    """One container.

    Attributes:
        may: the statuses of `docker inspect` that it may have; `absent` is one of them. More than one only after a
            command that failed, until the next look.
        place: what a look has seen of its network, which stays as it is until the next start; None when not known.
        moving: names of networks that a command is connecting it to or disconnecting it from.
        started: when the command began that started it last (seconds, monotonic).
        policy: its restart policy.
        removed: whether `--rm` removes it when it ends.
        served: whether it is a member of the run's service.
        flees: whether it ends every second, and its policy starts it again.
        loose: it has a policy, and a command on it was cut: what is wanted of it is not known.
    """

    name: str
    policy: str = ""
    removed: bool = False
    served: bool = False
    flees: bool = False
    loose: bool = False
    id: str = ""
    may: frozenset[str] = frozenset({ABSENT})
    place: dict[str, Any] | None = None
    networks: set[str] = dataclasses.field(default_factory=set)
    volume: str = ""
    image: str = "busybox"
    moving: set[str] = dataclasses.field(default_factory=set)
    started: float = 0.0

    @property
    def here(self) -> bool:
        """Whether it exists for certain."""
        return ABSENT not in self.may

    def after_a_kill(self) -> frozenset[str]:
        """What it may become without a command of ours when its monitor is killed."""
        if self.removed:
            return frozenset({ABSENT, "removing", "exited"})
        # a stop that was cut may have been written down: the policy does not apply then
        return frozenset({"exited", "running", "restarting"}) if self.policy else frozenset({"exited"})


@dataclasses.dataclass
class Thing:
    """A network, a volume or an image: `may` has `present`, `absent` or both."""

    name: str
    may: frozenset[str] = frozenset({ABSENT})
    id: str = ""

    @property
    def here(self) -> bool:
        """Whether it exists for certain."""
        return self.may == {"present"}


def place_of(shown: dict[str, Any]) -> dict[str, Any]:
    """What `docker inspect` says of a container's run and its place on its networks.

    Returns:
        `Id`, `Pid`, `Ports`, and by network name under `Networks`: address and MAC address.
    """
    settings = shown["NetworkSettings"]
    networks = {name: (one["IPAddress"], one["MacAddress"]) for name, one in settings["Networks"].items()}
    return {"Id": shown["Id"], "Pid": shown["State"]["Pid"], "Ports": settings["Ports"] or {}, "Networks": networks}


def differences(before: dict[str, Any], now: dict[str, Any], moving: set[str]) -> list[str]:
    """What of a place is not as it was, in words; networks in `moving` may have come or gone."""
    found = [f"{key}: {before[key]} became {now[key]}" for key in ("Id", "Pid", "Ports") if before[key] != now[key]]
    old, new = before["Networks"], now["Networks"]
    changed = [name for name in sorted((old.keys() | new.keys()) - moving) if old.get(name) != new.get(name)]
    return found + [f"network {name}: {old.get(name)} became {new.get(name)}" for name in changed]
