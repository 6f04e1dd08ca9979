"""Docker's HTTP API (1.24 to 1.51) and our own under `/wherry/v1/`, over the engine's facade.

A request's way: `hijack.Connection` parses it (aiohttp's parser, with the one exception of hijacked requests),
`server.Server` finds the handler in `routing`'s tables and gives it a `call.Call`, the handler asks the engine
(`facade` says what an engine is) and returns an answer of `reply`. Errors become a status in `errors`, nowhere else.
"""
