"""The graph of a build: operations that stand on one another, and how stages become one.

`operations` are values; `convert` makes them of stages, with what `semantics` lets an instruction say and `config` lets
it do to the image's configuration. BuildKit's Solve would be another way to such a graph.
"""
