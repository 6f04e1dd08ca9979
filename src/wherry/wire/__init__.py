"""Docker's JSON as types (Engine API 1.24 to 1.51), for `api/`, `client/` and the container verbs.

Field names are Python's; the JSON name is the field's `name`. Unknown keys of a request are ignored, as dockerd does;
a wrong type is an error that names the key. Absent and null are the same.
"""
