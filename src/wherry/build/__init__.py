"""The image builder: the Dockerfile language, the graph of operations, the solver and the executor.

Each step imports only the earlier: `lexer` → `parser` → `instructions` → `variables`, `stages`, `lint` are pure text
work, without files, clocks or asyncio; what comes after them does the building: `convert` makes of stages a `graph` of
operations, `solver` finds what of it is needed and not known (`cache`), `executor` does that; `assemble` makes an image
of the result. `build` is one build from request to result, and the doors (`api/`) are thin over it.
"""
