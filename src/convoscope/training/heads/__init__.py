"""Heads and what is fitted on features: tensors in, tensors out; no files, no runs, no networks."""
