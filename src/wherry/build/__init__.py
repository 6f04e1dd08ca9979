"""The image builder: the Dockerfile language, the graph of operations, the solver and the executor.

Each step imports only the earlier: `lexer` → `parser` → `instructions` → `variables`, `stages`, `lint` are pure text
work, without files, clocks or asyncio; what comes after them does the building.
"""
