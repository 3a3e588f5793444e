"""Run a function for many jobs, by this machine's threads or a cluster's workers."""

from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

from dogtl.base import DogtlError


def imap(function: Callable, jobs: list, client, home: Path, module=None) -> Iterator:
    """Yield the results of a function for each job, in order.

    Without a client, the threads of this machine compute them. Jobs that need a module
    run one by one then, because the module itself uses all cores. With a client, the
    workers of its cluster compute them; see `cluster.imap`.
    """
    if client is not None:
        from dogtl import cluster  # it imports the steps, which import this file

        yield from cluster.imap(function, jobs, client, home, module)
    elif module is not None:
        yield from map(function, jobs)
    else:
        with ThreadPool() as pool:
            yield from pool.imap(function, jobs)


def groups_of(items: list, size: int) -> list[list]:
    """Return items in lists of a size; the last one may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def not_shared(folder: Path, worker: str = "a worker") -> DogtlError:
    """Return the error for a folder that a worker of the cluster sees otherwise."""
    problem = f"{worker} can't see {folder} as you do"
    return DogtlError(f"{problem}: all workers must share it")
