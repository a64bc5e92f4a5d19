"""Opens one recorded number, or one gradient, into the sum that makes it."""
