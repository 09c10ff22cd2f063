"""Errors that a user or a service can act on; every other exception is a bug, and keeps its traceback.

Each message is one sentence with the remedy. Each class is also the built-in error that fits, so that a program may
catch `ValueError` or `RuntimeError` as it would from any library.
"""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend."""


class InputError(UserError, ValueError):
    """A setting, a file or a folder that the user named is not what is needed; name another."""


class BundleError(UserError, ValueError):
    """A bundle or a file of it is damaged, altered or of a newer format; copy or export it again."""


class FrameError(UserError, ValueError):
    """A frame cannot be judged; skip it, and say so."""


class BackendError(UserError, RuntimeError):
    """What runs the graph cannot be had here, or failed; choose another, or try to open it again."""


class SourceError(UserError, RuntimeError):
    """A camera or a stream is away; wait, and connect again."""
