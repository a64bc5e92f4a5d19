"""Trained backbones: where they come from, the features they give, and where they may end."""
