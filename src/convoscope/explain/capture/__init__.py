"""Runs a network on an image, leaves it as it was, and records every operation."""
