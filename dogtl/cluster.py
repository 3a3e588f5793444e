"""Past one machine: hand shards of photos to the workers of a Dask cluster.

    client = dask.distributed.Client("tcp://10.0.0.1:8786")
    squares = dogtl.square(photos, module.size, client=client)
    bottlenecks = dogtl.extract(squares, module, client=client)

The home lies on storage that all workers share. A worker runs the functions that one
process would run, and stores the same files under the same names. So nothing needs to
be merged, and Dask lets another worker do again what a lost one did.
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
MEETING, met = threading.Lock(), set()  # the modules that this worker has checked


def connect(address: str | None) -> AbstractContextManager[Client | None]:
    """Return a client of the Dask scheduler at an address; none without one.

    Raises
    ------
    DogtlError
        If Dask isn't installed, or there is no scheduler.

    Examples
    --------
    >>> dogtl.cluster.connect("tcp://127.0.0.1:1")
    Traceback (most recent call last):
    dogtl.base.DogtlError: no Dask scheduler answers at tcp://127.0.0.1:1: ...
    """
    if not address:
        return nullcontext()
    try:
        from distributed import Client
    except ImportError as error:
        raise DogtlError("--cluster needs Dask: pip install distributed") from error
    for name in ("distributed", "distributed.client"):  # what matters is raised, too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DogtlError(
            f"no Dask scheduler answers at {address}: start one with dask scheduler,"
            " and give the address that it prints"
        ) from error


class Pool:
    """A cluster's workers, to be used like a `ThreadPool`.

    Parameters
    ----------
    client : distributed.Client
        The client of a running scheduler.
    home : Path
        The folder for everything generated, on storage that all workers share.
    """

    def __init__(self, client: Client, home: Path):
        self.client, self.home, self.mark = client, home, None

    def __enter__(self) -> Pool:
        with suppress(OSError):  # a finished home may be read-only
            self.home.mkdir(parents=True, exist_ok=True)
            self.mark = NamedTemporaryFile(dir=self.home, prefix=".seen-")  # noqa: SIM115
        return self

    def __exit__(self, *_) -> None:
        if self.mark:
            self.mark.close()  # which deletes it

    def map(self, function: Callable, jobs: list) -> list:
        """Return what a function gives for each job, in their order."""
        return list(self.imap(function, jobs))

    def imap(
        self,
        function: Callable,
        jobs: list,
        chunksize: int = 0,
        module: Module | None = None,
    ) -> Iterator:
        """Yield what a function gives for each job, in their order.

        A task is `chunksize` jobs, unless given a shard of photos. If the jobs need a
        module, each worker loads it once. Raises DogtlError if a task can't be done.
        """
        chunksize = chunksize or bottlenecks.SHARD
        shards = [jobs[i : i + chunksize] for i in range(0, len(jobs), chunksize)]
        mark = self.mark and self.mark.name
        work = partial(_work, function, CODE, mark, module)
        if not self.client.nthreads():
            log.info("the cluster has no worker yet; waiting for one")
        tasks = self.client.map(work, shards, pure=False, batch_size=64)
        try:
            for task in tasks:
                yield from _result(task)
        finally:
            self.client.cancel(tasks)  # what's left, after an error or Control-C


def _result(task) -> list:
    """Wait for a task; turn the cluster's own errors into sentences."""
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


def _work(
    function: Callable, code: list, mark: str | None, module: Module | None, jobs: list
) -> list:
    """Do a task, on a worker that has the same code and sees the same files."""
    from distributed import get_worker

    me = f"the worker {get_worker().address}"
    if code != CODE:
        raise DogtlError(
            f"{me} has another version of dogtl, Pillow or TensorFlow: install the"
            " same on all workers"
        )
    try:
        if mark:
            os.stat(mark)
        if module:
            _meet(module)
        return [function(job) for job in jobs]
    except NotSharedError as error:
        folder = error
    except FileNotFoundError as error:
        folder = Path(error.filename).parent
    raise DogtlError(f"{me} can't see {folder} as you do: all workers must share it")


def _meet(module: Module) -> None:
    """Check and load a module once in each worker, whose threads share it."""
    with MEETING:
        if module.fingerprint in met:
            return
        if modules.fingerprint_folder(module.folder) != module.content:
            raise NotSharedError(module.folder)
        module(np.zeros([1, module.size, module.size, 3], np.float32))
        met.add(module.fingerprint)
