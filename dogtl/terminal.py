"""Safe text for terminals and Markdown; standard streams that are closed or full."""

import logging
import os
import re
import signal
import sys
from typing import NoReturn

# control characters, line breaks, and characters that reorder text or aren't valid
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# characters that Markdown and HTML interpret; an underscore only at a word's end
MARKUP = re.compile(r"[\\`*~#\[\]<>&$|]|\b_|_\b")


def printable(text: str) -> str:
    """Return a line of text with control characters escaped: names may contain any."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in one line: names may contain HTML."""
    return MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """Return text for a code span; there a backslash wouldn't escape a backtick."""
    return printable(text).replace("`", "'")


def show(*lines: str) -> None:
    """Print lines on standard output, with control characters escaped."""
    print("\n".join(map(printable, lines)))


class Formatter(logging.Formatter):
    """A log format that keeps each message on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message, with control characters escaped."""
        return printable(super().format(record))


def prepare() -> None:
    """Make standard output and error usable, and send the log to standard error."""
    _occupy_standard_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it
            stream = open(os.devnull, "w")  # noqa: SIM115 (it stays open)
        stream.reconfigure(errors="backslashreplace")  # escape what it can't encode
        setattr(sys, name, stream)
    logging.basicConfig(stream=sys.stderr, force=True)
    logging.root.handlers[0].setFormatter(Formatter("dogtl: %(message)s"))


def _occupy_standard_descriptors() -> None:
    """Open the null device in place of standard streams that the caller closed (`>&-`).

    Otherwise the next opened file would get descriptor 0, 1 or 2, and our output.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < 3:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def drop_output() -> None:
    """Discard what couldn't be printed; Python would try to print it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(number: int, _: object) -> NoReturn:
    """Raise KeyboardInterrupt for a signal, as for Control-C; it carries the number."""
    raise KeyboardInterrupt(signal.Signals(number))
