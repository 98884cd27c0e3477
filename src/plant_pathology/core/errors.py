"""Errors that a user can fix: each message names the file, key or option, and what to do."""


class UserError(Exception):
    """An error the user can fix. The message says what is wrong, where, and the remedy."""


class DamagedError(UserError):
    """Stored bytes are not those that were pushed."""


class BusyError(UserError):
    """Another command works on the same thing and must end first."""
