"""The errors that callers may want to tell apart."""


class RunError(Exception):
    """Something that the person at the keyboard can put right; shown without a traceback."""
