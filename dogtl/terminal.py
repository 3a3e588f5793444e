"""Text that is safe on a terminal, and streams that are closed, full or broken."""

import logging
import os
import re
import signal
import sys
from typing import NoReturn

# characters that a terminal obeys, or that reorder or break a line
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a line of text with control characters as codes, since names hold any."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def show(*lines: str) -> None:
    """Print lines on standard output."""
    print("\n".join(map(printable, lines)))


class Formatter(logging.Formatter):
    """Let each message of the log be one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message."""
        return printable(super().format(record))


def prepare() -> None:
    """Open the standard streams that are closed (``>&-``), and send the log there."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # it's free, so what is printed would end in the next file that is opened
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115 (closed)
        stream.reconfigure(errors="backslashreplace")  # for what it can't encode
        setattr(sys, name, stream)
    logging.basicConfig(stream=sys.stderr, force=True)
    logging.root.handlers[0].setFormatter(Formatter("dogtl: %(message)s"))


def drop_output() -> None:
    """Forget what couldn't be printed, or Python would try it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(number: int, _: object) -> NoReturn:
    """Handle a signal as Python handles Control-C."""
    raise KeyboardInterrupt(signal.Signals(number))
