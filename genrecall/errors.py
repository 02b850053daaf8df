"""The two ways a command fails: by the user's mistake (exit code 2) or by ours (exit code 1)."""


class UserError(Exception):
    """Something the user can mend. The message names the field, the value found and the remedy."""


class BundleError(UserError):
    """A bundle that is missing, damaged, or of a format that this version does not read."""


class BadRow(ValueError):
    """A row that is not kept. The message is the reason, the same words for every row with the same fault."""
