"""What can be asked across repositories, in SQL: names, tags, referrers, who holds a blob. Rebuildable."""
