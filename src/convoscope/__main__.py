"""`python -m convoscope`, the same as the command `convoscope`."""

from .children import leave_working_folder

# Python has put the working folder first on its path; it has to go before anything else is imported.
leave_working_folder()

from .launch import main  # noqa: E402

main()
