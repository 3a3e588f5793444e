"""Run a function for many jobs, by this machine's threads or a cluster's workers."""

from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path


def imap(
    function: Callable,
    jobs: list,
    client,
    home: Path,
    jobs_per_task: int | None = None,
    module=None,
) -> Iterator:
    """Yield the results of a function for each job, in order.

    Without a client, the threads of this machine compute them. Jobs that need a module
    run one by one then, because the module itself uses all cores. With a client, the
    workers of its cluster compute them; see `cluster.imap`.
    """
    if client is not None:
        from dogtl import cluster  # it imports the steps, which import this file

        yield from cluster.imap(function, jobs, client, home, jobs_per_task, module)
    elif module is not None:
        yield from map(function, jobs)
    else:
        with ThreadPool() as pool:
            yield from pool.imap(function, jobs)
