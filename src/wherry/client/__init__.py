"""The synchronous client of Docker's HTTP API: what the short-lived command speaks, on the standard library alone.

Import its modules, not this package: `address` (which engine), `http` (requests, streams, hijack), `errors`
(what goes wrong), `quickjson` (JSON without `re`), `autostart` (start the engine when nobody answers).
"""
