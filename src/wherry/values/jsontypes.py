"""The type of a JSON object that nothing has checked, or whose keys are another program's affair.

Where the keys are known, a `TypedDict` or a struct says more.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict  # `typing` is too much for the processes with an import budget
