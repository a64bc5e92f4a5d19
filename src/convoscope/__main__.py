"""`python -m convoscope`, the same as the command `convoscope`."""

from .cli import main

main()
