"""Processes under a monitor, from wherryd's side: what containers, build steps and helpers have in common.

`ports` says what is needed of floor 4; `helpers` are the processes of the host that serve containers (netd, HAProxy).
"""
