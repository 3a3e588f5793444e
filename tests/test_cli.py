"""The command line: results, messages, exit codes, and nothing imported for nothing."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    export,
    files_of,
    kill_once,
    python,
    times_of,
    wait_until,
)
from http_server import tarred

import dogtl
from dogtl import store
from dogtl.base import choose
from dogtl.cli import main

COMMANDS = ("square", "extract", "train", "evaluate", "run")
STEPS = [f"{split} squares" for split in ("train", "valid", "test")]
STEPS += [step.replace("squares", "bottlenecks") for step in STEPS]
NOTHING = [f"{step}: nothing to do" for step in (*STEPS, "linear layer", "figures")]


@pytest.fixture(autouse=True)
def logs():
    """What a command does to the log stays with its test."""
    handlers, level = logging.root.handlers[:], logging.getLogger("dogtl").level
    yield
    logging.root.handlers[:] = handlers
    logging.getLogger("dogtl").setLevel(level)


@pytest.fixture
def cli(capfd):
    """Run a command here; gives its exit code, standard output and standard error."""

    def run(*arguments):
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def quick(monkeypatch):
    """Training that ends before it's good."""
    monkeypatch.setattr("dogtl.linear.MAX_EPOCHS", 3)


@pytest.fixture
def options(photos, grid):
    """The shared photos and a module."""
    return ["--photos", photos, "--module", grid]


@pytest.fixture(scope="module")
def drawn(done, tmp_path_factory):
    """A home in which everything ran; it's shared: take a copy to change it."""
    home = shutil.copytree(done.home, tmp_path_factory.mktemp("drawn") / "home")
    options = ["--photos", done.photos.name, "--module", done.module.name]
    handlers = logging.root.handlers[:]
    assert main(["run", *options, "--home", str(home)]) == 0
    logging.root.handlers[:] = handlers
    return home


@pytest.fixture
def finished(drawn, home):
    """The same as this test's home."""
    return shutil.copytree(drawn, home)


def messages(err: str) -> list[str]:
    """What was said on standard error; nobody but dogtl may speak there."""
    lines = err.splitlines()
    assert all(line.startswith("dogtl: ") for line in lines), err
    return [line.removeprefix("dogtl: ") for line in lines]


def news(err: str) -> list[str]:
    """The same without what's said of steps that are done, and of short training."""
    said = messages(err)
    return [line for line in said if line not in NOTHING and "epochs" not in line]


def figures_folder(out: str) -> Path:
    (line,) = [line for line in out.splitlines() if line.startswith("figures ")]
    return Path(line.split(maxsplit=1)[1])


# --- every command --------------------------------------------------------------------


def test_the_commands_one_after_another_leave_what_run_leaves(
    cli, options, drawn, home
):
    for command, steps in zip(COMMANDS[:-1], (3, 6, 7, 7), strict=True):
        code, out, err = cli(command, *options)
        assert code == 0 and out and not news(err), err
        again, out_again, err = cli(command, *options)
        assert (again, out_again) == (0, out)
        assert messages(err) == NOTHING[:steps]
    made, everything = files_of(home), files_of(drawn)
    assert made.items() <= everything.items()
    rest = {Path(name) for name in everything.keys() - made.keys()}
    assert {name.parts[0] for name in rest} == {"figures"}
    tables = ("training_curves", "per_breed", "confused_pairs", "confusion")
    expected = {f"{name}.{end}" for name in tables for end in ("png", "pdf", "csv")}
    expected |= {"most_confident_errors.png", "most_confident_errors.pdf"}
    assert {name.name for name in rest} == expected | {"evaluation.json"}


def test_a_finished_run_says_the_same_and_writes_nothing(cli, options, finished):
    before = times_of(finished)
    code, out, err = cli("run", *options)
    assert (code, messages(err)) == (0, NOTHING)
    assert cli("run", *options) == (0, out, err)
    assert times_of(finished) == before
    first_words = [line.split()[0] for line in out.splitlines()]
    assert first_words[:4] == ["photos", "module", "layer", "figures"]
    assert first_words[-1] == "accuracy" and figures_folder(out).is_dir()


def test_train_prints_every_epoch(cli, options, finished, done):
    _, out, _ = cli("train", *options)
    header, *rows, last = out.splitlines()
    assert header.split() == ["epoch", *done.layer.history]
    assert [int(row.split()[0]) for row in rows] == list(range(1, len(rows) + 1))
    losses = [float(row.split()[2]) for row in rows]
    assert losses == pytest.approx(done.layer.history["valid_loss"], abs=1e-4)
    assert last == repr(done.layer)


def test_a_home_goes_on_where_there_is_no_network(
    cli, web, photos, grid, home, monkeypatch
):
    served = [web.serve("m", tarred(grid)), web.serve("dogs.tar.gz", tarred(photos))]
    monkeypatch.setenv("DOGTL_DOGS_URL", web.address("dogs.tar.gz"))
    options = ["--photos", "dogs", "--module", web.address("m")]
    code, out, err = cli("fetch", *options)
    assert code == 0 and all("fetching http" in line for line in messages(err))
    photos_line, module_line, home_line = out.splitlines()
    assert str(home / "photos") in photos_line and str(home / "modules") in module_line
    assert "to work offline elsewhere" in home_line and home_line.endswith(str(home))
    moved = shutil.copytree(home, home.with_name("moved"))
    shutil.rmtree(home)
    for file in served:
        file.answers = [404] * 9
    assert cli("extract", *options, "--home", moved)[0] == 0
    assert [file.asked for file in served] == [[None], [None]]


# --- JSON -----------------------------------------------------------------------------


def test_evaluate_json(cli, options, finished, done):
    code, out, err = cli("evaluate", *options, "--json")
    low, high = done.evaluation.interval
    assert code == 0 and messages(err) == NOTHING[:7]
    assert json.loads(out) == {
        "accuracy": done.evaluation.accuracy,
        "interval": [low, high],
        "top5": None,
        "n_photos": 15,
        "n_breeds": 3,
        "n_skipped": 0,
        "photos": done.photos.name,
        "module": done.module.name,
    }
    assert cli("evaluate", *options)[1].splitlines()[-1] == repr(done.evaluation)


def test_evaluate_json_of_seven_breeds(cli, seven):
    options = ["--photos", seven.photos.name, "--module", seven.module.name]
    home = ["--home", seven.home]
    code, out, _ = cli("evaluate", "--json", *options, *home, "--size", 24)
    facts = json.loads(out)
    assert code == 0 and (facts["n_breeds"], facts["n_photos"]) == (7, 21)
    assert facts["top5"] == seven.evaluation.top5 >= facts["accuracy"]


def test_predict(cli, options, finished, done, photos):
    good = photos / "test" / "002.Grass_hound" / "dog_00.jpg"
    Path("bad.jpg").write_bytes(b"no image")
    asked = ["bad.jpg", str(good), "missing.jpg"]
    code, out, err = cli("predict", *asked, *options, "--json")
    assert code == 1
    assert json.loads(out) == dogtl.predict(done.layer, done.module, asked)
    bad, result, missing = json.loads(out)
    assert [*bad, *missing] == ["photo", "error"] * 2
    assert list(result) == ["photo", "predictions"] and result["photo"] == str(good)
    assert sorted(one["breed"] for one in result["predictions"]) == done.photos.breeds
    said = messages(err)
    assert said == [f"{one['photo']}: {one['error']}" for one in (bad, missing)]
    code, out, err = cli("predict", *asked, *options)
    first, *lines = out.splitlines()
    assert code == 1 and first == str(good) and messages(err) == said
    assert [line.split() for line in lines] == [
        [f"{one['probability']:.1%}", one["breed"]] for one in result["predictions"]
    ]
    assert cli("predict", good, *options, "--json")[0] == 0


# --- the layer that predict reads -----------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_predict_needs_the_layer_and_its_module_but_no_photos(cli, mine, grid, home):
    photo = shutil.copy(mine / "test/001.Red_setter/dog_00.jpg", "photo.jpg")
    shutil.copytree(grid, "module")
    options = ["--photos", "./mine", "--module", "./module"]
    assert cli("train", *options)[0] == 0
    before = cli("predict", photo, *options)
    assert before[0] == 0 and before[1]
    shutil.rmtree(mine)
    for folder in ("squares", "bottlenecks", "linear"):
        shutil.rmtree(home / folder)
    assert cli("predict", photo, *options) == before
    shutil.rmtree("module")
    export("module", "Grid", scale=2.0)
    code, out, err = cli("predict", photo, *options)
    (said,) = messages(err)
    assert (code, out) == (1, "") and "trained with the module" in said
    assert "train again" in said


@pytest.mark.usefixtures("quick")
def test_layers_lie_apart_and_are_listed(cli, options, photos, many, colours, home):
    code, out, err = cli("predict", "photo.jpg", *options)
    (said,) = messages(err)
    assert (code, out) == (1, "") and "run dogtl train" in said and "none" in said
    others = ["--photos", many, "--module", colours, "--size", 24]
    for line in (options, [*options, "--seed", "7"], others):
        assert cli("train", *line)[0] == 0
    files = sorted((home / "layers").iterdir())
    (with_seed,) = [file for file in files if file.name.endswith("-seed-7.npz")]
    without_seed = with_seed.name.replace("-seed-7", "")
    assert len(files) == 3 and without_seed in [file.name for file in files]
    photo = photos / "test/001.Red_setter/dog_00.jpg"
    asked = ["predict", photo, *options, "--json", "--seed"]
    assert json.loads(cli(*asked, 0)[1]) != json.loads(cli(*asked, 7)[1])
    with_seed.write_bytes(with_seed.read_bytes()[:-50])
    for seed in (7, 8):  # damaged, missing
        code, out, err = cli("predict", photo, *options, "--seed", seed)
        (said,) = messages(err)
        assert (code, out) == (1, "") and f"-seed-{seed}: run dogtl train" in said
        assert all(file.stem in said for file in files)


# --- bad photos -----------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_skipped_photos_are_counted_and_strict_stops_at_them(cli, mine, grid):
    options = ["--photos", mine, "--module", grid]
    assert cli("square", *options, "--strict")[0] == 0
    for place in ("train/001.Red_setter/bad.jpg", "test/002.Grass_hound/bad.png"):
        (mine / place).write_bytes(b"no image")
    (mine / "valid" / "stray.txt").write_text("stray")
    for _ in range(2):
        code, out, err = cli("evaluate", *options, "--json")
        assert code == 0 and json.loads(out)["n_skipped"] == 3
        assert sum(line.startswith("skipped ") for line in messages(err)) == 3
    assert "3 skipped" in cli("square", *options)[1]
    for command in COMMANDS:
        code, out, err = cli(command, *options, "--strict")
        said = messages(err)[-1]
        assert (code, out) == (1, "") and "can't be used" in said
        assert "001.Red_setter/bad.jpg" in said


@pytest.mark.usefixtures("quick")
def test_names_that_are_no_unicode(cli, mine, grid, tmp_path):
    odd = os.fsdecode(b"004.caf\xe9 $x$ hound")
    try:
        for split in ("train", "valid", "test"):
            shutil.copytree(mine / split / "001.Red_setter", mine / split / odd)
    except OSError:
        pytest.skip("this file system takes Unicode only")
    folder = mine.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    (folder / "test" / odd / os.fsdecode(b"bad\xe9.jpg")).write_bytes(b"no image")
    options = ["--photos", folder, "--module", grid]
    for _ in range(2):
        code, out, err = cli("run", *options)
        assert code == 0 and "1 skipped" in out and "bad\\udce9.jpg" in err
    code, out, _ = cli("evaluate", *options, "--json")
    assert code == 0 and json.loads(out)["photos"] == str(folder)
    code, out, _ = cli("predict", folder / "test" / odd / "dog_00.jpg", *options)
    assert code == 0 and "004.caf\\udce9" in out


# --- figures --------------------------------------------------------------------------


def test_what_is_missing_of_the_figures_is_made_again(cli, options, finished):
    before, (_, out, _) = files_of(finished), cli("run", *options)
    folder = figures_folder(out)
    (folder / "per_breed.png").unlink()
    assert cli("run", *options)[:2] == (0, out) and files_of(finished) == before
    for name, data in (
        ("confusion.pdf", ""),
        ("training_curves.csv", ""),
        ("evaluation.json", ""),
        ("evaluation.json", '{"accuracy": 0.'),
    ):
        (folder / name).write_text(data)
        assert cli("run", *options)[:2] == (0, out) and files_of(finished) == before
    facts = cli("evaluate", *options, "--json")[1]
    assert json.loads((folder / "evaluation.json").read_bytes()) == json.loads(facts)


@pytest.mark.usefixtures("quick")
def test_no_old_confusion_matrix_lies_beside_new_figures(
    cli, options, finished, monkeypatch
):
    few = figures_folder(cli("run", *options)[1])
    before = files_of(few)
    assert {"confusion.png", "confusion.pdf", "confusion.csv"} <= before.keys()
    monkeypatch.setattr("dogtl.cli.MAX_CONFUSION_BREEDS", 2)
    code, out, _ = cli("run", *options)
    more = figures_folder(out)
    assert code == 0 and more != few
    assert files_of(few) == before and not list(more.glob("confusion.*"))
    assert (more / "per_breed.png").exists()


# --- mistakes -------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path, photos, grid, colours):
    """What the mistakes below are made with."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    shutil.copytree(photos, tmp_path / "stranger")
    (tmp_path / "stranger/test/999.Cat").mkdir()
    return {"P": photos, "M": grid, "C": colours}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("square --photos ./none --module M", "/none"),
        ("square --photos ./file --module M", "there is no folder"),
        ("square --photos ./empty --module M", "train"),
        ("square --photos ./stranger --module M", "999.Cat"),
        ("fetch --photos puppies --module M", "kennel"),
        ("run --photos puppies --module M", "kennel"),
        ("run --photos https://127.0.0.1:9/x --module M", "folder"),
        ("run --photos P --module inception", "toy"),
        ("run --photos P --module ./none", "/none"),
        ("run --photos P --module ./file", "no module folder"),
        ("run --photos P --module ./empty", "can't be loaded"),
        ("run --photos P --module C", "--size"),
        ("run --photos P --module http://127.0.0.1:9/m/1", "dogtl fetch"),
        ("train --photos P --module M --size 33", "32 pixels, not of 33"),
        ("extract --photos P --module M --home ./file", "file"),
        ("extract --photos P --module M --home ./file/deeper", "file"),
        ("predict a.jpg --photos P --module M", "dogtl train"),
        ("predict a.jpg --photos ./none --module M", "dogtl train"),
        ("evaluate --json --photos ./none --module M", "/none"),
    ],
)
def test_a_mistake_gets_one_sentence(cli, web, world, line, named):
    words = [world.get(word, word) for word in line.split()]
    code, out, err = cli(*words)
    (said,) = news(err)
    assert (code, out) == (1, "") and named in said


USAGE = ["", "bark", "predict", "square --siz", "square --size", "square extra"]
USAGE += ["train --seed x", "train --seed -1", "train --seed 1.5", "square --json"]
USAGE += [f"train --seed {2**64}", "--photos ./a square", "evaluate --home"]
USAGE += [f"run --size {n}" for n in ("0", "-3", "abc", "1.5", "²", "1e3", "4097")]


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage(cli, line):
    code, out, err = cli(*line.split())
    assert (code, out) == (2, "") and err.startswith("usage: dogtl")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize("size", ["abc", "0", "-1", "1.5", "²", "32 ", "4097"])
def test_a_bad_size_in_the_variable(cli, options, monkeypatch, size):
    monkeypatch.setenv("DOGTL_SIZE", size)
    code, out, err = cli("square", *options)
    (said,) = messages(err)
    assert (code, out) == (1, "") and "DOGTL_SIZE" in said
    assert cli("square", *options, "--size", "32")[0] == 0


def test_help(cli):
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    assert all(word in out for word in (*COMMANDS, "fetch", "predict", "DOGTL_HOME"))
    for command, option in (("evaluate", "--json"), ("predict", "--json"), ("run", "")):
        code, out, err = cli(command, "--help")
        names = ("photos", "module", "size", "home", "seed", "strict")
        assert (code, err) == (0, "") and option in out
        assert all(f"--{name}" in out for name in names)


def test_an_interrupted_command_says_how_to_go_on(cli, options, monkeypatch):
    monkeypatch.setattr(dogtl, "square", lambda *_: signal.raise_signal(signal.SIGINT))
    code, out, err = cli("run", *options)
    (said,) = messages(err)
    assert (code, out) == (130, "") and "continues from here" in said


# --- what is chosen, and where it lies ------------------------------------------------


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, "kennel"),
        ("", "kennel"),
        ("dogs", "dogs"),
        ("./dogs", "{here}/dogs"),
        ("a/../b/", "{here}/b"),
        ("/a/b", "/a/b"),
        ("~/a", "{user}/a"),
        (Path("dogs"), "{here}/dogs"),
        ("c:dogs", "{here}/c:dogs"),
        ("https://tfhub.dev/x/1", "https://tfhub.dev/x/1"),
        ("file:///a", "file:///a"),
    ],
)
def test_arguments_then_variables_then_the_default(
    value, chosen, monkeypatch, tmp_path
):
    chosen = chosen.format(here=tmp_path, user=Path.home())
    monkeypatch.delenv("DOGTL_PHOTOS", raising=False)
    assert choose(value, "DOGTL_PHOTOS", "kennel") == chosen
    if not isinstance(value, Path):
        monkeypatch.setenv("DOGTL_PHOTOS", value or "")
        assert choose(None, "DOGTL_PHOTOS", "kennel") == chosen
    monkeypatch.setenv("DOGTL_PHOTOS", "other")
    assert choose(value, "DOGTL_PHOTOS", "kennel") == (chosen if value else "other")


def test_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("DOGTL_HOME", "./from_variable")
    assert store.find_home() == tmp_path / "from_variable"
    for given in ("given", Path("given")):
        assert store.find_home(given) == tmp_path / "given"
    assert store.find_home("~/given") == Path.home() / "given"


@pytest.mark.parametrize("folder", [".", "notebooks/deeper"])
def test_the_home_is_never_searched_from_the_current_folder(
    monkeypatch, tmp_path, folder
):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "dogtl"\n')
    (tmp_path / "data").mkdir()
    Path(folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    for nothing in (lambda: monkeypatch.setenv("DOGTL_HOME", ""), monkeypatch.undo):
        nothing()
        monkeypatch.delenv("DOGTL_HOME", raising=False)
        assert store.find_home() == Path(__file__).parents[1] / "data"


def test_the_home_of_an_installed_package(monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("DOGTL_HOME")
    monkeypatch.setattr(store, "CHECKOUT", tmp_path / "site-packages")
    with caplog.at_level(logging.INFO, "dogtl"):
        assert store.find_home() == tmp_path / "data"
    assert str(tmp_path / "data") in caplog.text and "DOGTL_HOME" in caplog.text


def test_the_variables_of_a_command(cli, monkeypatch, photos, grid, home, tmp_path):
    monkeypatch.setenv("DOGTL_PHOTOS", os.path.relpath(photos))
    monkeypatch.setenv("DOGTL_MODULE", os.path.relpath(grid))
    code, out, _ = cli("square")
    assert code == 0 and len(files_of(home / "squares")) == 51
    monkeypatch.setenv("DOGTL_HOME", "mine")
    assert cli("square")[:2] == (0, out.replace(str(home), str(tmp_path / "mine")))
    assert files_of(tmp_path / "mine") == files_of(home)
    monkeypatch.setenv("DOGTL_PHOTOS", "nonsense")
    assert cli("square")[0] == 1
    assert cli("square", "--photos", photos, "--home", home)[:2] == (0, out)


# --- other processes ------------------------------------------------------------------

LIGHT = """
import sys
from dogtl.cli import main
for command in sys.argv[1].split(","):
    try:
        code = main([*command.split(), *sys.argv[2:]])
    except SystemExit as stop:
        code = stop.code
    heavy = {"tensorflow", "keras", "tensorflow_hub", "PIL", "matplotlib", "tqdm"}
    assert code == 0 and not heavy & set(sys.modules), (command, code)
"""


def test_nothing_heavy_is_imported_for_nothing(options, finished):
    commands = ["--help", "fetch", *COMMANDS, "evaluate --json"]
    process = python(LIGHT, ",".join(commands), *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not news(err)


@pytest.mark.parametrize("closed", [">&-", "<&-"])
def test_a_closed_stream_is_no_traceback(options, finished, closed):
    for line in (["--help"], ["evaluate", *map(str, options)]):
        shell = f'exec "$0" -m dogtl "$@" {closed}'
        command = ["sh", "-c", shell, sys.executable, *line]
        process = subprocess.run(command, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr and "Error" not in process.stderr


QUICK_RUN = """
import os, sys, time
from dogtl import bottlenecks, linear
from dogtl.cli import main
bottlenecks.SHARD, linear.MAX_EPOCHS = 8, 3
"""
SLOW_RUN = """
def slow(real):
    return lambda *arguments, **options: (time.sleep(0.03), real(*arguments, **options))
os.replace, os.utime = slow(os.replace), slow(os.utime)
"""
RUN = "sys.exit(main(['run', *sys.argv[1:]]))"


@pytest.fixture
def alone(quick, cli, home, monkeypatch):
    """Do a quick run in another home; gives its output and its files."""
    monkeypatch.setattr("dogtl.bottlenecks.SHARD", 8)

    def run(*options):
        folder = home.with_name("alone")
        code, out, _ = cli("run", *options, "--home", folder)
        assert code == 0
        return out.replace(str(folder), str(home)), files_of(folder)

    return run


def test_two_runs_at_once(alone, cli, options, home):
    other = python(QUICK_RUN + SLOW_RUN + RUN, *options)
    wait_until(other, (home / "squares").exists)
    code, out, err = cli("run", *options)
    other_out, other_err = other.communicate(timeout=300)
    assert (code, other.returncode) == (0, 0), other_err
    assert out == other_out and "accuracy" in out
    assert not news(err + other_err)
    assert alone(*options) == (out, files_of(home))


def test_what_killed_runs_left_goes_with_what_they_wrote(cli, options, finished):
    code, out, _ = cli("run", *options)
    files = files_of(finished)
    for name, data in files.items():
        file = finished / name
        file.rename(file.with_name(f".{file.name}.0a1b2c3d.part")).write_bytes(data[1:])
    assert cli("run", *options)[:2] == (code, out)
    assert files_of(finished) == files


def test_a_run_that_is_killed_at_every_stage(
    alone, cli, web, photos, grid, home, monkeypatch
):
    module = web.serve("m", tarred(grid), pause=0.02)
    dogs = web.serve("dogs.tar.gz", tarred(photos, "dogImages/"), pause=0.003)
    monkeypatch.setenv("DOGTL_DOGS_URL", web.address("dogs.tar.gz"))
    options = ["--photos", "dogs", "--module", web.address("m")]

    def half_there(folder):
        archives = home.glob(f"{folder}/*.part/archive")
        return any(archive.stat().st_size > 3000 for archive in archives)

    def half_written(folder):
        return any((home / folder).rglob(".*.part"))

    for come_so_far in (
        lambda: half_there("modules"),
        lambda: half_there("photos"),
        lambda: half_written("squares"),
        lambda: half_written("bottlenecks"),
    ):
        kill_once(python(QUICK_RUN + SLOW_RUN + RUN, *options), come_so_far)
    code, out, err = cli("run", *options)
    assert code == 0 and not news(err)
    for served in (module, dogs):  # once more, for the rest
        assert len(served.asked) == 2 and served.asked[1].startswith("bytes=")
        served.pause = 0
    assert not [path for path in home.rglob("*") if path.name.endswith(".part")]
    assert alone(*options) == (out, files_of(home))
