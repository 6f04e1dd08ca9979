"""Every pattern of a stranger's, matched in time that grows with the lengths and never with what the pattern says."""
