"""What every step shares: one error for users, a log, a progress bar, a choice."""

import logging
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("dogtl")
KERAS = "keras:"  # how the handle of a network of keras.applications begins


class DogtlError(Exception):
    """A problem that the user can solve; the message is one sentence that says how."""


class NotSharedError(DogtlError):
    """A worker of a cluster sees another folder than we do; the message is its path."""


def choose(given: str | Path | None, variable: str, default: str) -> str:
    """Return what was chosen: the argument, else the variable, else the default.

    Parameters
    ----------
    given : str, Path or None
        A known word, a handle, or a path. A `Path` is always a path; text is one if
        it holds a ``/`` or a ``:`` (less ``keras:`` and a name) or ends in ``.csv``.
        Relative paths start at the current folder.
    variable : str
        Name of the environment variable to use where nothing is given.
    default : str
        What to use where the variable isn't set, or empty.

    Returns
    -------
    str
        A word, a handle with ``://`` or ``keras:``, or an absolute path.
    """
    value = str(given or os.environ.get(variable) or default)
    known = is_word(value.removeprefix(KERAS)) and not isinstance(given, Path)
    if "://" in value or known:
        return value
    return os.path.abspath(os.path.expanduser(value))


def is_word(value: str) -> bool:
    """Return whether a choice is a word, neither a path nor a handle."""
    marks = {"/", ":", os.sep}
    return not any(mark in value for mark in marks) and not value.endswith(".csv")


def slug(value: str) -> str:
    """Return text that is safe as part of a file name, and still readable."""
    return re.sub(r"[^\w.-]+", "-", value, flags=re.ASCII)[-40:].strip(".-") or "_"


def plural(n: int, what: str) -> str:
    """Return a noun as it follows a number: photo after 1, photos after any other."""
    return what if n == 1 else f"{what}s"


def error_text(error: Exception) -> str:
    """Return what an error says, in one line."""
    error = getattr(error, "reason", error)  # what urllib wraps
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.split("\n")[0][:200].rstrip(".:") or type(error).__name__


def progress(items: Iterable | None, total: int, what: str) -> Iterable:
    """Return items with a bar, a widget in notebooks.

    ``TQDM_DISABLE=1`` hides it, and so does a log that shows warnings alone.
    Without items the bar is a context manager with a method `update`. On a terminal,
    and in notebooks without ipywidgets, it's text on standard error.
    """
    with warnings.catch_warnings(action="ignore"):  # "IProgress not found"
        from tqdm.auto import tqdm

    hidden = os.environ.get("TQDM_DISABLE", "0") not in {"", "0"}
    hidden |= log.level > logging.INFO
    options = {"dynamic_ncols": True, "disable": hidden}  # widgets ignore it
    return tqdm(items, desc=what, total=total or None, **options)
