"""dogtl's command line, light: with a module and figures that take no time.

Run it as ``python -m dogtl`` is run. Everything else is dogtl's own.
"""

import signal
import sys
from pathlib import Path

import PIL.Image  # noqa: F401 (what a process imports first, its children have)
import scipy.optimize  # noqa: F401
import tqdm.auto  # noqa: F401

import dogtl
from dogtl import cli, download, evaluation, figures  # noqa: F401
from dogtl.store import atomic_write
from dogtl.toy import kennel


class Means(dogtl.Module):
    """A module without TensorFlow: the 48 mean colours of a 4 x 4 grid."""

    def __init__(self, size=32):
        super().__init__("means", Path("means"), size, 48, 0, 0, f"means-{size}")

    def __call__(self, images):
        cells = images.reshape(-1, 4, self.size // 4, 4, self.size // 4, 3)
        return cells.mean((2, 4)).reshape(-1, 48)


def sketch(draw, table, folder, **_):
    """Publish a figure without drawing it, which takes longest."""
    for suffix in ("csv", "png", "pdf"):
        atomic_write(folder / f"{draw.__name__}.{suffix}", str(table).encode())


def die_at(call, suffix=""):
    """Kill this process where it is about to give the n-th such file its name."""
    import os

    replace, calls = os.replace, []

    def fatal(part, file):
        calls.extend([file] * str(file).endswith(suffix))
        if len(calls) == call:
            os.kill(os.getpid(), 9)
        replace(part, file)

    os.replace = fatal


def main(*line: str) -> int:
    """Run a command."""
    dogtl.load_module, figures.publish = lambda *_: Means(), sketch
    dogtl.bottlenecks.SHARD = 4  # so that there are more moments to be killed at
    two = {"Afghan_hound": 1, "Alaskan_malamute": 1}
    kennel.COUNTS = dict.fromkeys(kennel.COUNTS, two)
    return cli.main(line)


def start(line: list[str], log: Path, fatal: int = 0) -> None:
    """Run a command in this process, made for it; what it says goes into the log.

    It's killed before it gives its n-th file, the fatal one, its name.
    """
    die_at(fatal)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
    sys.stdout = sys.stderr = open(log, "w", 1, "utf-8")  # noqa: SIM115
    sys.exit(main(*line))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
