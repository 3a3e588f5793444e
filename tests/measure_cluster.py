"""Measure squares and extraction on clusters of 1 and 2 workers (this is no test).

    python tests/measure_cluster.py ../shared/real/clothing-small \\
        ../shared/real/modules/mobilenet_v2_100_224 3

Each worker has one thread. Both clusters are started and warm before the first round;
rounds alternate between them, each in a new home. A thousand photos are few shards, so
a task is 32 photos here.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import dogtl
from dogtl import bottlenecks

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def measure(photos, module, client) -> dict[str, tuple[float, float]]:
    """Return for both steps the photos per second, and per second of a core."""
    rates, results = {}, [photos]
    with tempfile.TemporaryDirectory() as home:
        for step, second in (dogtl.square, module.size), (dogtl.extract, module):
            used, start = sum(client.run(time.process_time).values()), time.monotonic()
            results.append(step(results[-1], second, Path(home), client=client))
            seconds = time.monotonic() - start
            used = sum(client.run(time.process_time).values()) - used
            n = sum(map(len, photos.paths.values()))
            rates[step.__name__] = n / seconds, n / used
        files = [file for some in results[1].files.values() for file in some]
        size = np.mean([file.stat().st_size for file in files])
    print(f"  {len(files)} squares of {size:,.0f} bytes", flush=True)
    return rates


def main(photos: str, module: str, rounds: str = "3") -> None:
    """Print each round, then the medians."""
    import dask
    from distributed import Client, LocalCluster

    os.environ.update(ONE_THREAD)
    # with this setting, Dask's own, the network takes twice as long
    trim = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
    dask.config.set({trim: None})
    bottlenecks.SHARD = 32
    photos, found = dogtl.load_photos(photos), {1: [], 2: []}
    with tempfile.TemporaryDirectory() as home:
        module = dogtl.load_module(module, home=Path(home))
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
        Client(one, set_as_default=False) as first,
        Client(two, set_as_default=False) as second,
    ):
        for i in range(int(rounds) + 1):
            for client in (first, second):
                n_workers = len(client.nthreads())
                rates = measure(photos, module, client)
                print(f"round {i}, {n_workers} worker(s): {rates}", flush=True)
                found[n_workers] += [rates] if i else []  # the first one warms up
    for step in ("square", "extract"):
        one, two = (np.array([rates[step] for rates in found[n]]) for n in (1, 2))
        (alone, core), (both, _) = np.median(one, axis=0), np.median(two, axis=0)
        print(
            f"{step}: {alone:.0f} photos a second with 1 worker, {both:.0f} with 2,"
            f" times {np.median(two / one, axis=0)[0]:.2f};"
            f" {core:.0f} photos a core-second"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
