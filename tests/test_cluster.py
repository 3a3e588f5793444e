"""A cluster gives what one process gives, whatever becomes of its workers."""

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Means, die_at, draw_photos, files_of, sentence
from dask import config
from distributed import Client, LocalCluster, Status

import dogtl
from dogtl import bottlenecks, cluster, modules
from dogtl.cli import main

COUNTS = {"train": (20, 14, 16), "valid": (4, 3, 5), "test": (5, 6, 4)}
NO_PROC = pytest.mark.skipif(not os.path.isdir("/proc/self/cwd"), reason="Linux only")
HERE = Path("/proc/self/cwd")  # the same path, another folder in each process


class Shared(Means):
    """The mean colours again, with a folder that workers must see."""

    def __init__(self, folder, content="a network"):
        super().__init__()
        folder.mkdir(exist_ok=True)
        (folder / "network").write_text(content)
        object.__setattr__(self, "folder", folder)
        content = modules.fingerprint_folder(folder)
        object.__setattr__(self, "fingerprint", f"{content}-32")


@pytest.fixture(scope="module")
def client(no_variables):
    """A client of two worker processes on this machine."""
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    options |= {"memory_limit": 0, "silence_logs": 50}  # which would end pauses
    with (
        LocalCluster(n_workers=2, **options) as two,
        Client(two, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(bottlenecks, "SHARD", 8)


@pytest.fixture(scope="module")
def dogs(tmp_path_factory):
    """Photos of three breeds, one spoilt and one in the wrong place."""
    folder = draw_photos(tmp_path_factory.mktemp("cluster") / "dogs", counts=COUNTS)
    (folder / "train" / "stray.jpg").write_bytes(b"")
    next((folder / "valid").glob("*/*.png")).write_bytes(b"spoilt")
    return folder


def two_steps(photos, module, home, client=None):
    """Squares and bottlenecks, with or without a cluster."""
    squares = dogtl.square(dogtl.load_photos(photos), module.size, home, client=client)
    return squares, dogtl.extract(squares, module, home, client=client)


@pytest.mark.parametrize("death", [None, (3, ".jpg"), (1, ".npz")])
def test_the_bytes_are_those_of_one_process(client, dogs, tmp_path, death):
    """Also if a worker is killed in the middle of its squares, or of a shard."""
    module = Shared(tmp_path / "module")
    squares, features = two_steps(dogs, module, tmp_path / "one")
    client.wait_for_workers(2, timeout=120)
    before = client.run(os.getpid)
    if death:
        client.run(die_at, *death, workers=list(before)[:1])
    found, same = two_steps(dogs, module, tmp_path / "two", client)
    assert (str(found), found.skipped) == (str(squares), squares.skipped)
    for split, made in features.items():
        assert np.array_equal(same[split].features, made.features)
        assert same[split].paths == made.paths
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
    assert len(before.items() - client.run(os.getpid).items()) == bool(death)


def test_the_command_line_hands_work_to_a_cluster(client, dogs, tmp_path, logs, capfd):
    """With a real network; one worker is paused, since TensorFlow takes seconds."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["extract", "--photos", str(dogs), "--home"]
    hand_out = [*options, str(two), "--cluster", client.scheduler.address]
    assert main([*options, str(one)]) == 0
    alone = capfd.readouterr().out
    shutil.copytree(one / "modules", two / "modules")
    client.wait_for_workers(2, timeout=120)
    busy, idle = client.run(os.getpid)
    client.run(pause, workers=[idle])
    assert main(hand_out) == 0
    out, err = capfd.readouterr()
    assert out == alone.replace(str(one), str(two))
    said = {line.split()[1] for line in err.splitlines()}
    assert said == {"skipped", "the"}, err  # the toy knows drawings only
    assert files_of(two) == files_of(one)
    assert client.run(loaded) == {busy: 1, idle: 0}
    assert main(hand_out) == 0
    said = capfd.readouterr().err  # of each step but valid's squares: one is spoilt
    assert said.count("nothing to do") == 5
    client.run(pause, False, workers=[idle])


def pause(pausing=True, dask_worker=None):
    """Let a worker take no tasks, or let it take some again."""
    dask_worker.status = Status.paused if pausing else Status.running


def loaded():
    """Return how often this worker has loaded a network."""
    return modules.load_network.cache_info().misses


@NO_PROC
def test_a_worker_that_sees_other_files_says_so(client, dogs, tmp_path):
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    shutil.copytree(dogs, tmp_path / "photos")
    client.wait_for_workers(2, timeout=120)
    client.run(os.chdir, elsewhere)
    module = Shared(tmp_path / "module", "one that no worker has met yet")

    def check(hidden, photos=dogs, home=home):
        with pytest.raises(dogtl.DogtlError) as error:
            two_steps(photos, module, home, client)
        said = sentence(error)
        assert said.startswith(("the worker tcp://127.0.0.1:", "a worker can't see"))
        assert f"can't see {hidden}" in said
        assert said.endswith("as you do: all workers must share it")

    check(HERE / "home", home=HERE / "home")
    check(HERE / "photos/train", HERE / "photos")  # there are none
    shutil.copytree(dogs, elsewhere / "photos", copy_function=shutil.copyfile)
    check(HERE / "photos/train", HERE / "photos")  # there are others
    assert not files_of(home)
    object.__setattr__(module, "folder", HERE / "module")
    check(HERE / "module")


def test_files_that_killed_runs_left_are_deleted(client, tmp_path):
    old, running = tmp_path / ".seen-old", tmp_path / ".seen-running"
    for file, hours in ((old, 25), (running, 23)):
        file.touch()
        os.utime(file, (time.time() - hours * 3600,) * 2)
    jobs = [str(tmp_path)]
    (seen,) = cluster.imap(os.listdir, jobs, client, tmp_path)
    assert len(seen) == 2 and running.name in seen  # and this run's own
    assert [*tmp_path.iterdir()] == [running]


def test_a_worker_with_another_version_says_so(client, dogs, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CODE", ["newer"])
    with pytest.raises(dogtl.DogtlError, match="another version of dogtl") as error:
        two_steps(dogs, Shared(tmp_path / "module"), tmp_path / "home", client)
    assert sentence(error)


def test_photos_that_kill_every_worker_end_in_a_sentence(client, dogs, tmp_path):
    """It's the last one that needs the workers."""
    client.wait_for_workers(2, timeout=120)
    client.cluster.scheduler.allowed_failures = 0
    client.run(die_at, 1, ".jpg")
    with pytest.raises(dogtl.DogtlError, match="several workers died") as error:
        two_steps(dogs, Shared(tmp_path / "module"), tmp_path / "home", client)
    assert sentence(error)


def test_no_scheduler_and_no_dask_end_in_a_sentence(monkeypatch):
    for address in ("tcp://127.0.0.1:1", "nowhere"):
        with (
            config.set({"distributed.comm.timeouts.connect": 0.1}),
            pytest.raises(dogtl.DogtlError, match="no Dask scheduler") as error,
        ):
            cluster.connect(address)
        assert sentence(error)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(dogtl.DogtlError, match="pip install distributed"):
        cluster.connect("tcp://127.0.0.1:1")
