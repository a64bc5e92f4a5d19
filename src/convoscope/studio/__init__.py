"""The browser studio's server: carries requests to the other rooms, and does no mathematics of its own. See
docs/studio.md.
"""
