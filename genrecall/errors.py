"""Errors that the user can correct (exit code 2); every other exception is a bug (exit code 1)."""


class UserError(Exception):
    """A mistake that the user can correct. The message names the field, its value and the remedy."""


class BundleError(UserError):
    """A bundle that is missing, damaged, or of a format that this version does not read."""


class BadRow(ValueError):
    """A row or value that cannot be used. The message is the reason, the same for each row with the same fault."""
