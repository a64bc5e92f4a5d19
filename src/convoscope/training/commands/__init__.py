"""`train`, `resume` and `relearn`: each decides everything, says so, writes it down, and then does it."""
