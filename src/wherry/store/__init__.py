"""What outlives a crash: blobs by digest, the database, leases that keep both from the collector, atomic writes.

Begin with `blobs`. Every write is whole or absent after `kill -9` or loss of power (`atomic`).
"""
