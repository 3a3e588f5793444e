"""Killed, crowded, without room or rights, a command ends with the same files."""

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import bench
import light
import numpy as np
import pytest
from conftest import files_of, python, random_layer, sentence, times_of

import dogtl
from dogtl import cleanup, download, modules, store
from dogtl.frameworks import is_saved_model

PROGRAM = Path(light.__file__)
# Its children have imported everything when they begin.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([PROGRAM.stem])


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The server finds the program beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROGRAM.parent), prepend=os.pathsep)
        yield


@pytest.fixture
def start(few, home, tmp_path):
    """Start a command in a process of its own; `log` has what it says."""

    def start(*line, home=home, log=tmp_path / "log", fatal=0):
        log.unlink(missing_ok=True)
        line = [*(line or ["run"]), "--photos", few, "--home", home]
        process = FORKS.Process(
            target=light.start, args=([*map(str, line)], log, fatal)
        )
        process.start()
        return process

    return start


@pytest.fixture
def run(start, tmp_path):
    """Run a command to its end; gives its exit code and what it says."""

    def run(*line, **options):
        process = start(*line, **options)
        process.join()
        said = (tmp_path / "log").read_text("utf-8")
        assert "Traceback" not in said, said
        return process.exitcode, said

    return run


@pytest.fixture(scope="module")
def alone(few, tmp_path_factory):
    """The files that an undisturbed run leaves."""
    home = tmp_path_factory.mktemp("alone")
    line = [sys.executable, PROGRAM, "run", "--photos", few, "--home", home]
    subprocess.run(line, check=True)
    assert len(files_of(home)) > 20
    return files_of(home)


# --- kills and signals ----------------------------------------------------------------

CODES = {9: -9, 2: 130, 15: 143}  # of kill -9, Ctrl-C and SIGTERM


@pytest.mark.parametrize(("number", "times"), [(9, 20), (2, 6), (15, 6)])
def test_stopped_at_any_moment_it_goes_on(
    start, run, alone, home, tmp_path, thorough, number, times
):
    rng, log = random.Random(0), tmp_path / "log"
    assert run()[0] == 0  # the first run starts the server, too
    shutil.rmtree(home)
    began = time.monotonic()
    assert run()[0] == 0
    took, stopped = time.monotonic() - began, 0
    shutil.rmtree(home)
    while stopped < times * (10 if thorough else 1):
        process = start()
        while process.is_alive() and not (log.exists() and log.stat().st_size):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, took))
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        process.join()
        if process.exitcode == 0:  # it was done: begin anew
            assert files_of(home) == alone
            shutil.rmtree(home)
            continue
        stopped += 1
        said = log.read_text("utf-8")
        assert process.exitcode == CODES[number] and "Traceback" not in said, said
        assert number == 9 or "continues from here" in said.splitlines()[-1]
    assert run()[0] == 0 and files_of(home) == alone


def test_killed_before_any_file_has_its_name_it_goes_on(start, alone, home):
    codes = []
    while 0 not in codes and len(codes) < len(alone):
        process = start(fatal=3)  # so each run adds two files
        process.join()
        codes.append(process.exitcode)
        assert process.exitcode == 0 or list(home.rglob("*.part"))
    assert len(codes) > 10 and set(codes) == {-9, 0}
    assert files_of(home) == alone


def test_processes_make_one_module(home, thorough):
    code = "import dogtl; print(dogtl.load_module('toy_random'))"
    started = [python(code) for _ in range(4 if thorough else 2)]
    said = [process.communicate(timeout=300) for process in started]
    assert not any(process.returncode for process in started), said
    (folder,) = (path for path in (home / "modules").iterdir() if path.is_dir())
    assert folder.name.startswith("toy_random-") and is_saved_model(folder)


def test_four_runs_at_once(start, alone, home, tmp_path):
    four = [start(log=tmp_path / f"{i}") for i in range(4)]
    for process in four:
        process.join()
    logs = [(tmp_path / f"{i}").read_text("utf-8") for i in range(4)]
    assert [process.exitcode for process in four] == [0] * 4, logs
    assert files_of(home) == alone


# --- damaged files --------------------------------------------------------------------


def emptied(data: bytes) -> bytes:
    return b""


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    at = data.rindex(b"PK\x01\x02") + 50  # a name in the directory
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def swallowed(data: bytes) -> bytes:
    """Let the directory's last part pass for a comment on the one before."""
    last = data.rindex(b"PK\x01\x02")
    at = data.rindex(b"PK\x01\x02", 0, last) + 32  # how long the comment is
    size = data.rindex(b"PK\x05\x06") - last
    return data[:at] + size.to_bytes(2, "little") + data[at + 2 :]


def fields_of(data: bytes) -> dict:
    with np.load(io.BytesIO(data)) as stored:
        return dict(stored)


def bytes_of(fields: dict) -> bytes:
    np.savez(buffer := io.BytesIO(), **fields)
    return buffer.getvalue()


def short_of_a_field(data: bytes) -> bytes:
    _, *fields = fields_of(data).items()
    return bytes_of(dict(fields))


def narrower(data: bytes) -> bytes:
    fields = fields_of(data)
    table = "kernel" if "kernel" in fields else "features"
    return bytes_of(fields | {table: fields[table][:, 1:]})


ARRAYS = ("bottlenecks", "linear", "layers")
DAMAGES = (emptied, cut, flipped, short_of_a_field, narrower)
DAMAGED = [(kind, damage) for kind in ARRAYS for damage in DAMAGES]
DAMAGED += [("squares", emptied), ("figures", emptied), ("figures", None)]


@pytest.mark.parametrize(("kind", "damage"), DAMAGED)
def test_damaged_files_are_made_again(run, alone, home, kind, damage):
    assert run()[0] == 0
    for name in files_of(home / kind):
        file = home / kind / name
        if damage:
            file.write_bytes(damage(file.read_bytes()))
        elif file.suffix == ".png":  # one of a figure's three files is deleted
            file.unlink()
    assert run()[0] == 0 and files_of(home) == alone


FIELDS = {"hashes": ["a", "bc"], "features": np.ones((2, 3), np.float32), "l2": 0.5}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, cut out, double or move some bytes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, n = rng.randrange(len(data)), rng.choice([1, 1, 1, 4, 30])
        other = rng.randrange(len(data))
        change = [[rng.randrange(256)], [data[at] ^ 1 << rng.randrange(8)], []]
        change += [data[at : at + n] * 2, data[other : other + n]]
        data[at : at + n] = bytes(rng.choice(change))
        data = data or bytearray(1)
    return bytes(data)


def test_fuzzed_arrays_are_whole_or_none(tmp_path, thorough):
    file, rng = tmp_path / "a.npz", random.Random(0)
    store.save_arrays(file, FIELDS)
    whole, fields = file.read_bytes(), repr(store.load_arrays(file))
    count = 10_000 if thorough else 300
    for damaged in [swallowed(whole), *(mutated(whole, rng) for _ in range(count))]:
        file.write_bytes(damaged)
        assert repr(store.load_arrays(file)) in ("{}", fields), damaged


def test_fuzzed_facts_are_used_or_not(tmp_path, thorough):
    """`module.json` and `model.json`."""
    facts = {"keras_content": "abc", "labels": ["a", "b"], "size": 32, "module": {}}
    whole, rng = json.dumps(facts).encode(), random.Random(0)
    for _ in range(2_000 if thorough else 100):
        for name in ("module.json", "model.json"):
            (tmp_path / name).write_bytes(mutated(whole, rng))
        try:
            dogtl.load_model(tmp_path)
        except dogtl.DogtlError as error:
            assert sentence(error)


def npz(header: bytes = b"", data: bytes = b"", **options) -> bytes:
    """One array in a zip, with a header of one's own."""
    if header:
        header = header.ljust(118) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", **options) as archive:
        archive.writestr("a.npy", data)
    return buffer.getvalue()


def header(descr: str, shape: str) -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()


HOSTILE = {
    "a bomb": npz(header("|u1", "(9000,)"), bytes(9000), compression=8),
    "more than memory": npz(header("<f8", f"({1 << 50},)")),
    "numbers of no bytes": npz(header("|V0", f"({1 << 40},)")),
    "texts of no letters": npz(header("<U0", f"({1 << 40},)")),
    "a negative length": npz(header("<f8", "(-1,)"), bytes(8)),
    "a pickle": npz(header("|O", "(1,)"), b"cos\nmkdir\n(S'sprung'\ntR."),
    "code in the header": npz(b"__import__('os').mkdir('sprung')"),
    "no array": npz(data=b"text"),
    "an array alone": npz(header("|u1", "(1,)"), b"1")[35:],
    "a pickle alone": b"cos\nmkdir\n(S'sprung'\ntR.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_not_read(tmp_path, name):
    file = tmp_path / "a.npz"
    file.write_bytes(HOSTILE[name])
    assert store.load_arrays(file) == {} and not Path("sprung").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda at: os.symlink(at, at)])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "a.npz")
    assert store.load_arrays(tmp_path / "a.npz") == {}
    if make is not os.mkdir:
        store.atomic_write(tmp_path / "a.npz", b"whole")
        assert files_of(tmp_path) == {"a.npz": b"whole"}


def test_pipes_named_like_stored_files_are_not_waited_for(tmp_path, few, home):
    for name in ("model.json", "module.json", f"linear/{'0' * 20}.npz", "layers/a.npz"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(home / name)
    signal.alarm(60)  # ends the tests if one of these waits
    assert cleanup.find_unneeded(dogtl.load_photos(few), home) == []
    assert modules.fingerprint_folder(home)
    with pytest.raises(dogtl.DogtlError, match="holds no model"):
        dogtl.load_model(home)
    with pytest.raises(dogtl.DogtlError, match="isn't an archive"):
        download.fetch_folder(str(home / "model.json"), tmp_path / "a")
    signal.alarm(0)


# --- no room, no right ----------------------------------------------------------------


@pytest.fixture
def disk(tmp_path, thorough):
    """Mount a disk in memory, or change it; gives its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        options = "remount," * os.path.ismount(folder) + options
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            end = pytest.fail if thorough else pytest.skip
            end(f"only root mounts; `unshare -rm` helps: {done.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(disk, run, alone, thorough):
    pages = sum(-(-len(data) // 4096) for data in alone.values())
    for room in range(1, pages, 1 if thorough else 5):
        home = disk(f"size={4 * room}k") / "home"
        code, said = run(home=home)
        *_, last = said.splitlines()
        assert code == 1 and last.startswith(f"dogtl: {home}"), said
        assert last.endswith(": No space left on device"), said
        disk("size=9m")
        assert run(home=home)[0] == 0 and files_of(home) == alone
        shutil.rmtree(home)


@pytest.mark.parametrize(
    ("program", "sizes"),
    [([PROGRAM], (60, 9000)), (["-m", "dogtl"], (5000, 20_000, 60_000))],
    ids=["few", "all"],
)
def test_a_kennel_on_a_full_disk(disk, thorough, program, sizes):
    if program != [PROGRAM] and not thorough:
        pytest.skip("it takes minutes: --all")
    line = [sys.executable, *program, "run", "--home"]
    for size in sizes:
        home = disk(f"size={size}k") / "home"
        done = subprocess.run([*line, home], capture_output=True, text=True)
        full = size < sizes[-1]
        assert done.returncode == full, done.stderr
        assert done.stderr.endswith(": No space left on device\n") == full
    assert done.stdout.count("0 skipped") == 2
    assert program == [PROGRAM] or "accuracy 0.929" in done.stdout


@pytest.mark.parametrize("size", [8, 600, 2600])
def test_a_model_on_a_full_disk(disk, home, thorough, size):
    if size != 600 and not thorough:
        pytest.skip("each takes seconds: --all")
    folder, module = disk(f"size={size}k"), dogtl.load_module("toy")
    for write in (
        lambda: dogtl.load_module("toy_random", home=folder / "home"),
        lambda: dogtl.export(random_layer(module), module, folder / "model"),
    ):
        with pytest.raises(dogtl.DogtlError, match="No space left") as caught:
            write()
        assert sentence(caught) and not files_of(folder)


def test_a_read_only_disk(disk, run):
    home = disk("size=9m") / "home"
    code, before = run(home=home)
    times = times_of(home)
    disk("ro")
    for command in ("fetch", "square", "extract", "train", "evaluate", "run"):
        code, said = run(command, home=home)
        assert code == 0 and said.splitlines()[-1] in before
    assert times_of(home) == times
    code, said = run(home=home / "other")
    assert code == 1 and said.endswith("other: Read-only file system\n"), said


# --- many photos ----------------------------------------------------------------------

MEANS = """
import sys
import light
light.dogtl.load_module = lambda *_: light.Means(8)
sys.exit(light.cli.main(sys.argv[1:]))
"""


def test_memory_hardly_grows_with_the_number_of_photos(tmp_path, thorough):
    if not thorough:
        pytest.skip("it takes a minute: --all")
    peaks = bench.peaks_of(["-c", MEANS], tmp_path)
    for step in ("square", "extract"):
        assert peaks[step, 20_000] - peaks[step, 500] <= 150, peaks


# --- where it runs --------------------------------------------------------------------

# Root may do anything, unless it gives that up.
OBEY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
WHERE = [  # what a shell does with a finished home, and how that ends
    ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $DOGTL run", 0, "accuracy"),
    ("unset HOME; $DOGTL run", 0, "accuracy"),
    ("TMPDIR=/nowhere $DOGTL run", 0, "accuracy"),
    ("PYTHONOPTIMIZE=2 $DOGTL run", 0, "accuracy"),
    ("cd /; $DOGTL run", 0, "accuracy"),
    ("mkdir shut; chmod 500 shut; cd shut; $DOGTL run", 0, "accuracy"),
    ("mkdir gone; cd gone; rmdir ../gone; $DOGTL run", 0, "accuracy"),
    ("chmod -R a-w home; $DOGTL run", 0, "accuracy"),
    ("chmod -R a-w home; $DOGTL clean", 0, "deleted 0 files"),
    ("chmod -R a-w home; $DOGTL predict $DOGTL_PHOTOS/test", 0, "Red_setter"),
    ("chmod 500 home; $DOGTL run --home home/new", 1, "home/new: Permission denied"),
    ("touch file; $DOGTL run --home file", 1, "file/squares"),
    ("$DOGTL run --home '~nosuchuser/x'", 1, "nosuchuser"),
    ("mkdir shut; chmod 0 shut; $DOGTL run --photos shut/dogs", 1, "lack permission"),
]


@pytest.mark.parametrize(("line", "code", "words"), WHERE)
def test_where_it_runs(run, few, tmp_path, monkeypatch, line, code, words):
    monkeypatch.setenv("DOGTL_PHOTOS", str(few))
    assert run()[0] == 0
    monkeypatch.setenv("DOGTL", f"{sys.executable} {PROGRAM}")
    path = [str(Path(dogtl.__file__).parents[1]), *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    shell = [*(OBEY if os.geteuid() == 0 else []), "sh", "-c", line]
    before = set(tmp_path.iterdir())
    done = subprocess.run(shell, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert words in (done.stdout if code == 0 else said[-1])
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "shut", tmp_path / "file"}
