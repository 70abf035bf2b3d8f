"""The base of the errors that this project raises for somebody else's mistake."""

from __future__ import annotations


class Trap2Error(ValueError):
    """Something that was given cannot be used; the message says what, and how to mend it.

    The command line and the jobs show it in one line, without a trace.  Whatever else is raised
    is a fault of the program.
    """
