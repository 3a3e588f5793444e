"""Clusters: hand shards of photos to the workers of a Dask cluster.

    client = dask.distributed.Client("tcp://10.0.0.1:8786")
    squares = dogtl.square(photos, module.size, client=client)
    bottlenecks = dogtl.extract(squares, module, client=client)

The home must be on storage that all workers share. A worker runs the same functions as
a single process, and stores the same files under the same names. So nothing needs to be
merged, and Dask reschedules the tasks of lost workers.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from dogtl import bottlenecks, modules, squares
from dogtl.base import DogtlError, explain_errors, log
from dogtl.modules import Module
from dogtl.parallel import groups_of, not_shared

CODE = [squares.CODE, bottlenecks.CODE]
PROBE = ".seen-"  # how the names of probe files begin
A_DAY = 24 * 60 * 60  # seconds

_check_lock = threading.Lock()
_checked_modules = set()  # the fingerprints of those that this worker has checked


def connect(address: str | None) -> AbstractContextManager:
    """Return a `distributed.Client` of the scheduler at an address; None without one.

    Raises DogtlError if Dask isn't installed, or if no scheduler answers.
    """
    if not address:
        return nullcontext()
    try:
        from distributed import Client
    except ImportError as error:
        raise DogtlError("--cluster needs Dask: pip install distributed") from error
    for name in ("distributed", "distributed.client"):  # its errors are also raised
        logging.getLogger(name).setLevel(logging.CRITICAL)
    advice = "start one with dask scheduler, and give the address that it prints"
    with explain_errors(f"no Dask scheduler answers at {address}", advice):
        return Client(address, set_as_default=False)


def imap(function: Callable, jobs: list, client, home: Path, module=None) -> Iterator:
    """Yield the results of a function for each job, in order; workers compute them.

    The workers are those of a `distributed.Client`, and share the home. A task has as
    many jobs as a shard has photos. Jobs that need a module are shards already, so a
    task has one of them; each worker loads the module once. Raises DogtlError if a task
    fails.
    """
    from distributed import KilledWorker

    groups = groups_of(jobs, 1 if module else bottlenecks.SHARD)
    if not client.nthreads():
        log.info("the cluster has no worker yet; waiting for one")
    with ExitStack() as stack:
        probe = None
        with suppress(OSError):  # the home may be read-only, if nothing is left to do
            probe = stack.enter_context(_make_probe(home)).name
        work = partial(_run_task, function, CODE, probe, module)
        tasks = client.map(work, groups, pure=False, batch_size=64)
        stack.callback(client.cancel, tasks)  # those left after an error or Control-C
        try:
            for task in tasks:
                yield from task.result()
        except (KilledWorker, CancelledError) as error:
            problem = "several workers died at the same photos, or the scheduler died"
            advice = "restart them with more memory and run this again to continue"
            raise DogtlError(f"{problem}: {advice}") from error


def _make_probe(home: Path) -> AbstractContextManager:
    """Make a temporary file: workers that see it share the home.

    Also delete those that killed runs left, but none of a run that may be alive.
    """
    home.mkdir(parents=True, exist_ok=True)
    for file in home.glob(f"{PROBE}*"):
        with suppress(OSError):  # another process may be deleting it too
            if time.time() - file.stat().st_mtime > A_DAY:
                file.unlink()
    return NamedTemporaryFile(dir=home, prefix=PROBE)


def _run_task(
    function: Callable, code: list, probe: str | None, module: Module | None, jobs: list
) -> list:
    """Do a task, if this worker has the same code and sees the same files."""
    from distributed import get_worker

    worker = f"the worker {get_worker().address}"
    if code != CODE:
        problem = f"{worker} has another version of dogtl, Pillow or TensorFlow"
        raise DogtlError(f"{problem}: install the same on all workers")
    try:
        if probe:
            os.stat(probe)
        if module:
            _check_and_load(module)
        return [function(job) for job in jobs]
    except FileNotFoundError as error:
        raise not_shared(Path(error.filename).parent, worker) from error


def _check_and_load(module: Module) -> None:
    """Check and load a module once in each worker, whose threads share it."""
    with _check_lock:
        if module.fingerprint in _checked_modules:
            return
        if modules.fingerprint_folder(module.folder) != module.content:
            raise not_shared(module.folder)
        module(np.zeros([1, module.size, module.size, 3], np.float32))
        _checked_modules.add(module.fingerprint)
