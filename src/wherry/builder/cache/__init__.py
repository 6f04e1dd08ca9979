"""What builds have made before: found again by content, carried elsewhere and back, counted, and pruned."""
