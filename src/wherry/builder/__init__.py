"""The image builder: the Dockerfile language, the graph of operations, the solver and the executor.

Each step imports only the earlier: `language/` is pure text work; `graph/` makes of its stages operations that stand on
one another; `solver` finds what of them is needed and not known (`cache/`), `executor` does that, with files of
`contexts/`; `assemble` makes an image of the result. `build` is one build from request to result, and the doors
(`api/`) are thin over it.
"""
