"""The warm process of `inject`: reads requests from stdin, runs each body in a fork under a trap, answers on stdout."""

import importlib
import json
import os
import sys

from tests.faults.trap import Fault, run_trapped


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        module, _, name = asked["body"].partition(":")
        body = getattr(importlib.import_module(module), name)
        arguments = asked["arguments"]
        fault = Fault(*asked["fault"]) if asked["fault"] else None
        outcome = run_trapped(lambda body=body, arguments=arguments: body(arguments), arguments["root"], fault)  # type: ignore[misc]
        answers.write(json.dumps(outcome.__dict__) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
