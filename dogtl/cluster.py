"""Clusters: hand shards of photos to the workers of a Dask cluster.

    client = dask.distributed.Client("tcp://10.0.0.1:8786")
    squares = dogtl.square(photos, module.size, client=client)
    bottlenecks = dogtl.extract(squares, module, client=client)

The home must be on storage that all workers share. A worker runs the same functions as
a single process, and stores the same files under the same names. So nothing needs to be
merged, and Dask reschedules the tasks of lost workers.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from dogtl import bottlenecks, modules, squares
from dogtl.base import DogtlError, NotSharedError, log
from dogtl.modules import Module

if TYPE_CHECKING:
    from distributed import Client

CODE = [squares.CODE, bottlenecks.CODE]

_check_lock = threading.Lock()
_checked_modules = set()  # the fingerprints of those that this worker has checked


def connect(address: str | None) -> AbstractContextManager[Client | None]:
    """Return a client of the Dask scheduler at an address; None without an address.

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
    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DogtlError(
            f"no Dask scheduler answers at {address}: start one with dask scheduler,"
            " and give the address that it prints"
        ) from error


class Pool:
    """A cluster's workers, with the `map` and `imap` of a ThreadPool, plus `module`.

    Parameters
    ----------
    client : distributed.Client
        The client of a running scheduler.
    home : Path
        The folder for everything generated, on storage that all workers share.
    """

    def __init__(self, client: Client, home: Path):
        self.client = client
        self.home = home
        self.probe_file = None  # workers that see it share the home

    def __enter__(self) -> Pool:
        with suppress(OSError):  # the home may be read-only, if nothing is left to do
            self.home.mkdir(parents=True, exist_ok=True)
            self.probe_file = NamedTemporaryFile(dir=self.home, prefix=".seen-")  # noqa: SIM115
        return self

    def __exit__(self, *_) -> None:
        if self.probe_file:
            self.probe_file.close()  # which deletes it

    def map(self, function: Callable, jobs: list) -> list:
        """Return the results of a function for each job, in order."""
        return list(self.imap(function, jobs))

    def imap(
        self,
        function: Callable,
        jobs: list,
        chunksize: int | None = None,
        module: Module | None = None,
    ) -> Iterator:
        """Yield the results of a function for each job, in order.

        A task has `chunksize` jobs, which defaults to a shard of photos. If the jobs
        need a module, each worker loads it once. Raises DogtlError if a task fails.
        """
        chunksize = chunksize or bottlenecks.SHARD
        shards = [jobs[i : i + chunksize] for i in range(0, len(jobs), chunksize)]
        probe = self.probe_file and self.probe_file.name
        work = partial(_run_task, function, CODE, probe, module)
        if not self.client.nthreads():
            log.info("the cluster has no worker yet; waiting for one")
        tasks = self.client.map(work, shards, pure=False, batch_size=64)
        try:
            for task in tasks:
                yield from _result(task)
        finally:
            self.client.cancel(tasks)  # those left after an error or Control-C


def _result(task) -> list:
    """Wait for a task; explain the cluster's own errors."""
    from distributed import KilledWorker

    try:
        return task.result()
    except KilledWorker as error:
        raise DogtlError(
            "several workers died in turn at the same photos: give each worker more"
            " memory, and run the same again"
        ) from error
    except CancelledError as error:
        raise DogtlError(
            "the cluster's scheduler is gone: start it again; the same command"
            " continues from here"
        ) from error


def _run_task(
    function: Callable, code: list, probe: str | None, module: Module | None, jobs: list
) -> list:
    """Do a task, if this worker has the same code and sees the same files."""
    from distributed import get_worker

    worker = f"the worker {get_worker().address}"

    def not_shared(folder: Path) -> DogtlError:
        return DogtlError(
            f"{worker} can't see {folder} as you do: all workers must share it"
        )

    if code != CODE:
        raise DogtlError(
            f"{worker} has another version of dogtl, Pillow or TensorFlow: install the"
            " same on all workers"
        )
    try:
        if probe:
            os.stat(probe)
        if module:
            _check_and_load(module)
        return [function(job) for job in jobs]
    except NotSharedError as error:
        raise not_shared(error.folder) from error
    except FileNotFoundError as error:
        raise not_shared(Path(error.filename).parent) from error


def _check_and_load(module: Module) -> None:
    """Check and load a module once in each worker, whose threads share it."""
    with _check_lock:
        if module.fingerprint in _checked_modules:
            return
        if modules.fingerprint_folder(module.folder) != module.content:
            raise NotSharedError(module.folder)
        module(np.zeros([1, module.size, module.size, 3], np.float32))
        _checked_modules.add(module.fingerprint)
