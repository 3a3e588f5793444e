"""Helpers that several files use: errors, the log, user's choices, progress bars."""

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("dogtl")
KERAS = "keras:"  # the handle of a network of keras.applications starts with this
MAX_SIZE = 4096  # pixels; a mistyped size would fill the memory


class DogtlError(Exception):
    """A problem that the user can solve; the message is one sentence that says how."""


def choose(given: str | Path | None, variable: str, default: str) -> str:
    """Return a choice: the argument, the environment variable or the default.

    The result is a word, a handle with ``://`` or ``keras:``, or an absolute path. A
    `Path` is always a path. A string is one if it holds a ``/`` or a ``:`` (except
    ``keras:`` and a name) or ends in ``.csv`` or ``.keras``. Relative paths start at
    the current folder.
    """
    value = str(given or os.environ.get(variable) or default)
    is_name = is_word(value.removeprefix(KERAS)) and not isinstance(given, Path)
    if is_name or "://" in value:
        return value
    return os.path.abspath(os.path.expanduser(value))


def choose_photos(given: str | Path | None) -> str:
    """Return the chosen photos: ``kennel``, another word, or an absolute path."""
    return choose(given, "DOGTL_PHOTOS", "kennel")


def choose_module(given: str | Path | None) -> str:
    """Return the chosen module: ``toy``, another word, a handle or an absolute path."""
    return choose(given, "DOGTL_MODULE", "toy")


def choose_size(given: int | None) -> int | None:
    """Return the requested size of squares in pixels; None if the module decides."""
    requested = os.environ.get("DOGTL_SIZE", "") if given is None else str(given)
    if not requested:
        return None
    is_number = re.fullmatch("[1-9][0-9]{0,3}", requested)
    if not is_number or int(requested) > MAX_SIZE:
        problem = f"--size (or DOGTL_SIZE) is {requested!r}"
        raise DogtlError(f"{problem}: give pixels, from 1 to {MAX_SIZE}")
    return int(requested)


def is_word(value: str) -> bool:
    """Return whether a choice is a word, rather than a path or a handle."""
    has_separator = any(mark in value for mark in ("/", ":", os.sep))
    return not has_separator and not value.endswith((".csv", ".keras"))


def slug(value: str) -> str:
    """Return the last 40 characters of a text, made safe for a file name."""
    safe = re.sub(r"[^\w.-]+", "-", value, flags=re.ASCII)
    return safe[-40:].strip(".-") or "_"


def plural(n: int, what: str) -> str:
    """Return a noun as it follows a number: 1 photo, 2 photos."""
    return what if n == 1 else f"{what}s"


def error_text(error: Exception) -> str:
    """Return an error's message in one line."""
    error = getattr(error, "reason", error)  # urllib wraps the real error
    text = str(getattr(error, "strerror", None) or error).strip()
    # TensorFlow puts {{node …}} and a temporary file's path before what went wrong.
    text = re.sub(r"^(\{\{.*?\}\} )?(/\S+; )?", "", text)
    if isinstance(error, KeyError):  # its message is only the key
        text += " is missing"
    return text.split("\n")[0][:200].rstrip(".:") or type(error).__name__


@contextmanager
def explain_errors(problem: str, advice: str) -> Iterator[None]:
    """Turn any error inside into DogtlError: the problem, the reason, the advice."""
    try:
        yield
    except DogtlError:
        raise
    except Exception as error:  # libraries raise errors of many classes
        raise DogtlError(f"{problem} ({error_text(error)}): {advice}") from error


def progress(items: Iterable | None, total: int, what: str) -> Iterable:
    """Return items with a progress bar: a widget in notebooks, else text on stderr.

    ``TQDM_DISABLE=1`` hides it, and so does a log that shows only warnings. Without
    items the bar is a context manager with a method `update`. Notebooks show text too
    if ipywidgets isn't installed.
    """
    with warnings.catch_warnings(action="ignore"):  # "IProgress not found"
        from tqdm.auto import tqdm

    is_disabled = os.environ.get("TQDM_DISABLE", "0") not in {"", "0"}
    return tqdm(
        items,
        desc=what,
        total=total or None,
        dynamic_ncols=True,  # follows a terminal's width; widgets ignore it
        disable=is_disabled or log.level > logging.INFO,
    )
