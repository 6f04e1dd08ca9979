"""Limits of block devices, and requests for GPUs, as `run` and `create` take them; errors in Docker's words."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _device(text: str) -> "tuple[str, str]":
    path, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def weight_of(text: str) -> "dict[str, Any]":
    """`/dev/sda:200`, 10 to 1000, or 0."""
    path, value = _device(text)
    weight = int(value) if value.isascii() and value.isdigit() else -1
    if weight != 0 and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def bytes_of(text: str) -> "dict[str, Any]":
    """`/dev/sda:1mb`, each second."""
    from wherry.values import sizes

    path, value = _device(text)
    try:
        rate = sizes.ram_in_bytes(value)
    except ValueError:
        rate = -1
    if rate < 0:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a"
            " positive integer. Unit is optional and can be kb, mb, or gb"
        )
    return {"Path": path, "Rate": rate}


def operations_of(text: str) -> "dict[str, Any]":
    """`/dev/sda:1000`, each second."""
    path, value = _device(text)
    if not (value.isascii() and value.isdigit()):
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive"
            " integer"
        )
    return {"Path": path, "Rate": int(value)}


def gpus_of(text: str) -> "dict[str, Any]":
    """`all`, `2`, or fields: `device=0`, `count=2`, `driver=x`, `capabilities=utility`, `options=a=b`."""
    from wherry.cli.mounts import fields_of

    found: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": {}}
    seen: set[str] = set()
    for field in fields_of(text):
        key, equals, value = field.partition("=")
        if equals and key not in ("driver", "count", "device", "capabilities", "options"):
            raise ValueError(f"unexpected key '{key}' in '{field}'")
        if not equals:
            key, value = "count", field
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if key == "count":
            if value != "all" and not value.removeprefix("-").isdigit():
                raise ValueError(f'invalid count ({value}): value must be either "all" or an integer: invalid syntax')
            found["Count"] = -1 if value == "all" else int(value)
        elif key == "driver":
            found["Driver"] = value
        elif key == "device":
            found["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            found["Capabilities"] = [[*value.split(","), "gpu"]]
        else:
            found["Options"] = dict(word.partition("=")[::2] for word in value.split(","))
    if not seen & {"count", "device"}:
        found["Count"] = 1
    found["Capabilities"] = found["Capabilities"] or [["gpu"]]
    return found
