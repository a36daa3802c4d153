"""Errors of the user's making: one clear sentence, no traceback, exit code 2."""

__all__ = ["CheckpointError", "NonFiniteError", "UserError"]


class UserError(Exception):
    """Something the user can mend.

    The message is one sentence that names what is wrong, where, and how to mend it. Command lines print it without a
    traceback and exit with code 2; library code raises it like any other exception.
    """


class CheckpointError(UserError):
    """A checkpoint that is damaged, incomplete, or belongs to another configuration."""


class NonFiniteError(UserError):
    """A metric became NaN or infinite, and the run was asked to stop on that."""
