"""Values that Docker's clients and Go's programs write: times, durations, sizes, quoted text, truth values.

Each is parsed and printed here alone. The command, the monitors and the runtime import these modules, so none of them
loads `re`, `datetime` or `typing`. A malformed value raises `ValueError`, in the words of Go's function.
"""
