"""The command line: arguments to calls, results to text. Heavy imports are inside the commands, so that --help is
quick.
"""

from .app import app
from .dispatch import run, unwritable
from .output import complain, warn

__all__ = ["app", "complain", "run", "unwritable", "warn"]
