"""`python -m convoscope`, the same as the command `convoscope`."""

from .children import leave_working_folder

# Python has put the working folder first on its path; before anything else is imported it has to go.
leave_working_folder()

from .cli import main  # noqa: E402

main()
