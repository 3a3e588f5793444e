"""The command line: results, messages, exit codes, and nothing imported for nothing."""

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import BREEDS, Means, all_steps, files_of, python, times_of
from http_server import tarred
from light import sketch

import dogtl
from dogtl.base import choose
from dogtl.cli import main
from dogtl.report import FIGURE_NAMES, draw

COMMANDS = ("square", "extract", "train", "evaluate", "run")
STEPS = [f"{split} squares" for split in ("train", "valid", "test")]
STEPS += [step.replace("squares", "bottlenecks") for step in STEPS]
FULL = "the output: No space left on device"
NOTHING = [f"{step}: nothing to do" for step in (*STEPS, "linear layer")]
pytestmark = pytest.mark.usefixtures("logs")


@pytest.fixture
def cli(capfd):
    """Run a command here; gives its exit code, standard output and standard error."""

    def run(*arguments):
        capfd.readouterr()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture(scope="module")
def ready(few, grid, tmp_path_factory):
    """A home in which everything ran, with TensorFlow; take a copy to change it."""
    home = tmp_path_factory.mktemp("ready") / "home"
    handlers = logging.root.handlers[:]
    line = ["run", "--photos", few, "--module", grid, "--home", home]
    assert main([str(word) for word in line]) == 0
    logging.root.handlers[:] = handlers
    return home


@pytest.fixture
def finished(ready, home):
    """The same as this test's home."""
    return shutil.copytree(ready, home)


@pytest.fixture
def options(few, grid):
    """The choices of `ready`."""
    return ["--photos", few, "--module", grid]


@pytest.fixture
def light(monkeypatch):
    """No TensorFlow and no drawing, but what is as good here."""
    monkeypatch.setattr(dogtl, "load_module", lambda *_: Means())
    monkeypatch.setattr(dogtl.figures, "publish", sketch)


def layer_of(home: Path) -> Path:
    (file,) = (home / "layers").iterdir()
    return file


def messages(err: str) -> list[str]:
    """What was said on standard error; nobody but dogtl may speak there."""
    lines = err.splitlines()
    assert all(line.startswith("dogtl: ") for line in lines), err
    return [line.removeprefix("dogtl: ") for line in lines]


def news(err: str) -> list[str]:
    """The same without what's said of done steps, and of the layer."""
    said = [line for line in messages(err) if not line.startswith("layer ")]
    return [line for line in said if line not in NOTHING]


def figures_folder(out: str) -> Path:
    return Path(out.splitlines()[-1].removeprefix("figures in "))


# --- every command --------------------------------------------------------------------


def test_the_commands_one_after_another(cli, light, many, home):
    outs = []
    for command, steps in zip(COMMANDS, (3, 6, 7, 7, 7), strict=True):
        code, out, err = cli(command, "--photos", many)
        assert code == 0 and not news(err)
        before = times_of(home)
        again, out_again, err = cli(command, "--photos", many)
        assert (again, out_again) == (0, out) and times_of(home) == before
        assert messages(err) == NOTHING[:steps]
        outs.append(out)
    assert sorted(outs) == outs  # each says what the ones before say, and more
    made = {path.name for path in figures_folder(out).iterdir()}
    ends = ("csv", "pdf", "png")
    assert made == {f"{name}.{end}" for name in FIGURE_NAMES for end in ends}
    facts = json.loads(cli("evaluate", "--json", "--photos", many)[1])
    assert facts["top5"] == all_steps(many).evaluation.top5 >= facts["accuracy"]


def test_what_they_print_is_of_the_results(cli, options, few, grid, finished):
    made = all_steps(few, grid, home=finished)
    code, out, err = cli("run", *options)
    assert code == 0 and messages(err) == NOTHING
    for one in (made.photos, made.module, made.squares, made.layer, made.evaluation):
        assert repr(one) in out.splitlines()
    assert f"test: {made.bottlenecks['test']}" in out and figures_folder(out).is_dir()
    code, out, err = cli("evaluate", *options, "--json")
    assert code == 0 and messages(err) == NOTHING
    assert json.loads(out) == {
        "accuracy": made.evaluation.accuracy,
        "interval": list(made.evaluation.interval),
        "top5": None,
        "n_photos": 5,
        "n_breeds": 3,
        "n_skipped": 0,
        "photos": made.photos.name,
        "module": made.module.name,
    }


def test_a_carried_home_needs_no_network(cli, web, few, grid, home, monkeypatch):
    served = [web.serve("m", tarred(grid)), web.serve("dogs.tar.gz", tarred(few))]
    monkeypatch.setenv("DOGTL_DOGS_URL", web.address("dogs.tar.gz"))
    options = ["--photos", "dogs", "--module", web.address("m")]
    code, out, err = cli("fetch", *options)
    assert code == 0 and all("fetching http" in line for line in messages(err))
    assert str(home / "photos") in out and str(home / "modules") in out
    code, before, _ = cli("extract", *options)
    moved = shutil.copytree(home, home.with_name("moved"))
    shutil.rmtree(home)
    for file in served:
        file.answers = [404] * 9
    code, out, err = cli("extract", *options, "--home", moved)
    assert code == 0 and out == before.replace(str(home), str(moved))
    assert messages(err) == NOTHING[:6]
    assert [file.asked for file in served] == [[None], [None]]


# --- the layer that predict reads -----------------------------------------------------


def test_predict(cli, options, few, grid, finished):
    good = few / "test" / "002.Grass_hound" / "dog_00.jpg"
    Path("bad.jpg").write_bytes(b"no image")
    asked = ["bad.jpg", str(good), "missing.jpg"]
    code, out, err = cli("predict", *asked, *options, "--json")
    made = all_steps(few, grid, home=finished)
    assert code == 1
    assert json.loads(out) == dogtl.predict(made.layer, made.module, asked)
    bad, result, missing = json.loads(out)
    assert [*bad, *missing] == ["photo", "error"] * 2
    assert list(result) == ["photo", "predictions"] and result["photo"] == str(good)
    said = messages(err)
    wrong = [f"{one['photo']}: {one['error']}" for one in (bad, missing)]
    assert said == [f"layer {layer_of(finished)}", *wrong]
    code, out, err = cli("predict", *asked, *options)
    first, *lines = out.splitlines()
    assert code == 1 and first == str(good) and messages(err) == said
    assert [line.split() for line in lines] == [
        [f"{one['probability']:.1%}", one["breed"]] for one in result["predictions"]
    ]
    assert cli("predict", good, *options, "--json")[0] == 0


def test_predict_folders_into_a_csv(cli, options, few, grid, finished, monkeypatch):
    Path("mine").mkdir()
    Path("mine/bad.jpg").write_bytes(b"no image")
    line = ["predict", few / "test", "mine", *options, "--csv", "a.csv", "--top"]
    code, out, err = cli(*line, 2)
    said, last = news(err)
    assert (code, out) == (1, "") and said.startswith("mine/bad.jpg: ")
    assert last == "6 photos in a.csv"
    with open("a.csv", newline="") as text:
        *rows, last = csv.DictReader(text)
    assert ",".join(last) == "photo,breed,probability,breed_2,probability_2,error"
    assert last["error"] == said.partition(": ")[2] and last["breed"] == ""
    made = all_steps(few, grid, home=finished)
    results = dogtl.predict(made.layer, made.module, few / "test", top=2)
    for row, result in zip(rows, results, strict=True):
        best = [str(cell) for one in result["predictions"] for cell in one.values()]
        assert [*row.values()] == [result["photo"], *best, ""]
    assert cli(*line, 1, "--json")[1].count('"breed"') == len(rows) == 5
    strict = ["predict", few / "test", "mine", few, *options, "--strict"]
    code, out, err = cli(*strict, "--csv", "strict.csv")
    assert (code, out) == (1, "") and news(err)[-1] == "6 photos in strict.csv"
    with open(
        "strict.csv", newline=""
    ) as text:  # it ends with the photo that stopped it
        assert [bool(row["error"]) for row in csv.DictReader(text)] == [False] * 5 + [
            True
        ]
    for file in ("none/a.csv", "mine"):
        code, out, err = cli(*line[:2], *options, "--csv", file)
        assert code == 1 and messages(err)[-1].startswith(f"{file} can't be written")
    if Path("/dev/full").exists():
        code, out, err = cli(*line[:2], *options, "--csv", "/dev/full")
        assert code == 1 and messages(err)[-1] == "/dev/full: No space left on device"
    before = Path("a.csv").read_bytes()
    for wrong in (["--top", 0], ["--photos", "./none"]):
        assert cli(*line[:-1], *wrong)[0] == 1
    stop = lambda *_: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(dogtl.prediction, "_predict_batch", stop)
    assert cli(*line, 1)[0] == 143 and Path("a.csv").read_bytes() == before


def test_predict_needs_layer_and_module_alone(cli, light, mine, home, monkeypatch):
    photo = shutil.copy(mine / "test/001.Red_setter/dog_00.jpg", "photo.jpg")
    assert cli("train", "--photos", "./mine")[0] == 0
    before = cli("predict", photo, "--photos", "./mine")
    assert before[0] == 0 and before[1]
    for folder in (mine, home / "squares", home / "bottlenecks", home / "linear"):
        shutil.rmtree(folder)
    assert cli("predict", photo, "--photos", "./mine") == before
    monkeypatch.setattr(dogtl, "load_module", lambda *_: Means(16))
    code, out, err = cli("predict", photo, "--photos", "./mine")
    (said,) = news(err)
    assert (code, out) == (1, "") and "trained with the module" in said
    assert "train again" in said


def test_layers_lie_apart_and_are_listed(cli, options, few, mine, finished):
    module = options[2:]
    assert cli("train", "--photos", mine, *module)[0] == 0
    files = sorted((finished / "layers").iterdir())
    (other,) = [file for file in files if "-mine-" in file.stem]
    assert len(files) == 2
    other.write_bytes(other.read_bytes()[:-50])
    photo = few / "test/001.Red_setter/dog_00.jpg"
    for more in (["--photos", mine], [*options[:2], "--size", 24]):  # damaged, and none
        code, out, err = cli("predict", photo, *module, *more)
        (said,) = messages(err)
        assert (code, out) == (1, "") and "run dogtl train" in said
        assert all(file.stem in said for file in files)


def test_without_mistakes_no_figure_shows_them(kennel, tmp_path):
    labels = kennel.bottlenecks["test"].labels
    perfect = replace(kennel.evaluation, probabilities=np.eye(12)[labels])
    folder = draw(kennel.squares, kennel.layer, perfect, tmp_path, "a")
    names = {file.stem for file in folder.iterdir()}
    assert names == set(FIGURE_NAMES) - {"confused_pairs", "most_confident_errors"}


# --- photos of one's own --------------------------------------------------------------


def test_a_split_that_was_cut_is_written_and_used(cli, light, few, home, tmp_path):
    mine = shutil.copytree(few / "train", tmp_path / "mine")
    for breed in mine.iterdir():
        shutil.copy(few / "test" / breed.name / "dog_00.jpg", breed / "more.jpg")
    code, out, err = cli("fetch", "--photos", mine, "--splits", "a/cut.csv")
    assert code == 0 and "3 train, 3 valid, 3 test photos" in out
    (said,) = news(err)
    assert said.startswith(f"valid and test cut from {mine}, by content: 3 train")
    assert cli("run", "--photos", mine)[0] == 0
    before, lines = files_of(home / "bottlenecks"), set(STEPS)
    os.chdir("a")
    again = ["fetch", "--photos", mine, "--splits", "cut.csv"]
    assert cli(*again)[0] == 0
    edited = Path("cut.csv").read_text().replace("train", "test", 1)
    Path("edited.csv").write_text(edited)
    code, out, err = cli(*again[:-1], "edited.csv")
    assert code == 1 and "already exists with different splits" in err
    assert Path("edited.csv").read_text() == edited
    code, out, err = cli("run", "--photos", "cut.csv")
    assert code == 0 and {line.partition(": n")[0] for line in messages(err)} >= lines
    assert files_of(home / "bottlenecks") == before and len(files_of(home)) > 9
    code, out, err = cli("predict", mine, "--photos", "cut.csv")
    assert code == 0 and not news(err) and "cut.csv" in err


def test_toys_and_drawings_belong_together(cli, light, few, kennel, monkeypatch):
    def say(photos, module):
        monkeypatch.setattr(dogtl, "load_module", lambda *_: module)
        return news(cli("extract", "--photos", photos, "--home", kennel.home)[2])

    toy = Means()
    object.__setattr__(toy, "name", "toy")
    assert say("kennel", toy) == say(few, Means()) == []
    assert "use --module mobilenet_v2" in say(few, toy)[0]
    assert "use --module toy" in say("kennel", Means())[0]


# --- bad photos -----------------------------------------------------------------------


def test_skipped_photos_are_counted_and_strict_stops_at_them(cli, light, mine):
    assert cli("square", "--photos", mine, "--strict")[0] == 0
    for place in ("train/001.Red_setter/bad.jpg", "test/002.Grass_hound/bad.png"):
        (mine / place).write_bytes(b"no image")
    (mine / "valid" / "stray.txt").write_text("stray")
    for _ in range(2):
        code, out, err = cli("evaluate", "--photos", mine, "--json", "--quiet")
        assert code == 0 and json.loads(out)["n_skipped"] == 3
        assert [line.split()[0] for line in messages(err)] == ["skipped"] * 3
    assert "3 skipped" in cli("square", "--photos", mine)[1]
    for command in COMMANDS:
        code, out, err = cli(command, "--photos", mine, "--strict")
        said = messages(err)[-1]
        assert code == 1 and "001.Red_setter/bad.jpg can't be used" in said


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (b"caf\xe9 $x$", r"caf\udce9 $x$"),  # no Unicode
        (b"\x1b[2J\nred\xc2\x9b", r"\x1b[2J\nred\x9b"),  # what a terminal obeys
    ],
)
def test_odd_names(cli, light, mine, tmp_path, odd, shown):
    odd = os.fsdecode(odd)
    try:
        for split in ("train", "valid", "test"):
            shutil.copytree(mine / split / "001.Red_setter", mine / split / odd)
    except OSError:
        pytest.skip("this file system takes Unicode only")
    folder = mine.rename(tmp_path / odd)
    (folder / "test" / odd / f"{odd}.jpg").write_bytes(b"no image")
    code, out, err = cli("run", "--photos", folder)
    assert code == 0 and "1 skipped" in out and f"{shown}.jpg" in err
    assert f"  in {tmp_path}/{shown}" in out.splitlines() and messages(err)
    code, facts, _ = cli("evaluate", "--photos", folder, "--json")
    assert code == 0 and json.loads(facts)["photos"] == str(folder)
    photo = folder / "test" / odd / "dog_00.jpg"
    code, named, _ = cli("predict", photo, f"{odd}.png", "--photos", folder)
    assert code == 1 and named.count(shown) == 3
    assert not set(out + err + named) & {"\x1b", "\x9b", "\udce9"}
    for wrong in ("--", "--s="):  # which is no option, or may be several
        code, _, err = cli("square", f"{wrong}{odd}")
        assert code == 2 and f"{wrong}{shown}" in err.splitlines()[-1]


def test_a_breed_in_letters_that_no_font_has(cli, mine, monkeypatch):
    monkeypatch.setattr(dogtl, "load_module", lambda *_: Means())
    for split in mine.iterdir():
        (split / BREEDS[0]).rename(split / "犬")
    code, out, err = cli("run", "--photos", mine)
    assert (code, err) == (0, "")
    assert "犬" in (figures_folder(out) / "per_breed.csv").read_text("utf-8")


def test_old_and_new_figures_never_mix(cli, options, finished, monkeypatch):
    def run():
        code, out, _ = cli("run", *options)
        assert code == 0
        return figures_folder(out)

    old = run()
    before = files_of(old)
    monkeypatch.setattr("dogtl.report.MAX_CONFUSION_BREEDS", 2)
    monkeypatch.setattr(dogtl.figures, "publish", sketch)
    new = run()
    assert {file.stem for file in new.iterdir()} == {"training_curves", "per_breed"}
    Path("mine.mplstyle").write_text("font.size: 9")
    monkeypatch.setenv("DOGTL_STYLE", "mine.mplstyle")
    assert len({old, new, run()}) == 3 and files_of(old) == before
    monkeypatch.setenv("DOGTL_STYLE", "seaborn-v0_8")
    assert cli("run", *options)[0] == 0  # a name that Matplotlib knows
    monkeypatch.setenv("DOGTL_STYLE", "mine.mplstyle")
    Path("mine.mplstyle").unlink()
    code, _, err = cli("run", *options)
    assert code == 1 and messages(err)[-1].startswith("mine.mplstyle: No such file")


# --- what can go ----------------------------------------------------------------------


def test_clean(cli, light, few, mine, home, tmp_path, monkeypatch):
    assert cli("run", "--photos", mine)[0] == 0
    other = {name for name in files_of(home) if name.startswith("squares/")}
    code, out, _ = cli("run", "--photos", few)
    old, key = figures_folder(out).name[:-8] + "0" * 8, "0" * 20
    goes = {f"bottlenecks/{key}/{key}.npz", f"linear/{key}.npz"}
    goes.add(f"squares/32/001.Red_setter/a-{key}.jpg")
    goes |= {f"figures/{old}/per_breed.{end}" for end in ("csv", "png")}
    stays = {f"figures/{old}/mine.csv", f"linear/{key}.txt", "linear/a.npz"}
    stays |= {f"photos/a/b/a-{key}.jpg", "squares/32/002.Dog/a.jpg", "run/a.html"}
    for name in goes | stays:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("10 letters")
    os.utime(home / f"figures/{old}/per_breed.csv", (0, 0))
    shutil.copytree(home / f"bottlenecks/{key}", tmp_path / "outside")
    (home / "bottlenecks" / ("1" * 20)).symlink_to(tmp_path / "outside")
    goes |= other
    before = files_of(home)
    size = sum(len(before[name]) for name in goes) / 1e6
    said = f"{len(goes)} files, {size:.1f} MB\n"
    for kind in ("squares", "bottlenecks", "linear", "figures"):
        some = [name for name in goes if name.startswith(f"{kind}/")]
        said += f"  {len(some)} in {home / kind}\n"
    clean = ("clean", "--photos", few)
    assert cli(*clean, "--dry-run") == (0, f"would delete {said}", "")

    def read_only(path):  # chmod wouldn't stop root
        raise OSError(30, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", read_only)
        code, out, err = cli(*clean)
        assert (code, out) == (1, "") and files_of(home) == before
        assert messages(err)[-1].endswith(": Read-only file system")
    assert cli(*clean) == (0, f"deleted {said}", "")
    assert files_of(home).keys() == before.keys() - goes
    assert files_of(tmp_path / "outside") and not (home / "bottlenecks" / key).exists()
    assert cli(*clean)[1].startswith("deleted 0 files, 0.0 MB")
    assert messages(cli("run", "--photos", few)[2]) == NOTHING
    assert cli("run", "--photos", mine)[0] == 0 and files_of(home).keys() >= other


# --- mistakes -------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path, few, grid, colours):
    """What the mistakes below are made with."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    shutil.copytree(few, tmp_path / "stranger")
    shutil.copytree(few / "test/001.Red_setter", tmp_path / "stranger/test/999.Cat")
    return {"P": few, "M": grid, "C": colours}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("square --photos ./none --module M", "/none"),
        ("square --photos ./empty --module M", "train"),
        ("square --photos ./stranger --module M", "999.Cat"),
        ("fetch --photos puppies --module M", "kennel"),
        ("run --photos P --module inception", "toy"),
        ("run --photos P --module ./none", "/none"),
        ("run --photos P --module ./empty", "can't be loaded"),
        ("run --photos P --module C", "--size"),
        ("run --photos P --module M --size 0", "--size"),
        ("run --photos P --module M --size 4097", "--size"),
        ("run --photos P --module M --size 99999999999999999999", "--size"),
        ("square --photos ~nosuchuser/x --module M", "~nosuchuser/x"),
        ("fetch --photos P --module http://[", "http://["),
        ("clean --photos P --module M", "there are: none"),
        ("run --photos P --module http://127.0.0.1:9/m/1", "dogtl fetch"),
        ("train --photos P --module M --size 33", "32 pixels"),
        ("extract --photos P --module M --home ./file/deeper", "file"),
        ("predict a.jpg --photos P --module M", "there are: none"),
        ("evaluate --json --photos ./none --module M", "/none"),
    ],
)
def test_a_mistake_gets_one_sentence(cli, web, world, line, named):
    words = [world.get(word, word) for word in line.split()]
    code, _, err = cli(*words)
    (said,) = news(err)
    assert code == 1 and named in said


USAGE = ["", "bark", "predict", "square --siz", "square --size", "square extra"]
USAGE += ["train --size x", "train --size 1.5", "train --seed 1", "square --json"]
USAGE += ["--photos ./a square", "evaluate --home", "run --home=", "predict a --csv="]
USAGE += [f"run --size {n}" for n in ("abc", "1.5", "²", "1e3")]


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage(cli, line):
    code, out, err = cli(*line.split())
    command = line.partition(" ")[0]
    command = command if command in (*COMMANDS, "predict") else ""
    assert (code, out) == (2, "") and err.startswith(f"usage: dogtl {command}".strip())
    assert "error: " in err.splitlines()[-1]


def test_an_export_to_nowhere_replaces_no_current_folder(cli):
    code, out, err = cli("export", "")
    assert (code, out) == (2, "") and "FOLDER: it's empty: give a path" in err
    assert not list(Path().iterdir())


def test_quiet_prints_only_the_result(cli, options, finished):
    for command, last in (("evaluate", "accuracy "), ("run", "figures in ")):
        code, out, err = cli(command, *options, "--quiet")
        assert (code, err) == (0, "") and "breeds" not in out
        assert "accuracy " in out and out.splitlines()[-1].startswith(last)


def test_help_and_version(cli):
    assert cli("--version") == (0, f"{dogtl.__version__}\n", "")
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    assert all(word in out for word in (*COMMANDS, "fetch", "predict", "DOGTL_HOME"))
    for command in ("fetch", "predict", "evaluate"):
        code, out, err = cli(command, "--help")
        names = ("photos", "module", "size", "home", "strict")
        assert (code, err) == (0, "") and all(f"--{name}" in out for name in names)
        assert ("--json" in out) == (command != "fetch")


# --- what is chosen -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("dogs", "dogs"),
        ("./dogs", "{here}/dogs"),
        ("a/../b/", "{here}/b"),
        ("/a/b", "/a/b"),
        ("~/a", "{user}/a"),
        ("c:dogs", "{here}/c:dogs"),
        ("dogs.csv", "{here}/dogs.csv"),
        ("net.keras", "{here}/net.keras"),
        ("https://tfhub.dev/x/1", "https://tfhub.dev/x/1"),
        ("file:///a", "file:///a"),
    ],
)
def test_words_paths_and_addresses_are_told_apart(value, chosen, tmp_path, monkeypatch):
    chosen = chosen.format(here=tmp_path, user=Path.home())
    assert choose(value, "DOGTL_PHOTOS", "kennel") == chosen
    monkeypatch.setenv("DOGTL_PHOTOS", value)
    assert choose(None, "DOGTL_PHOTOS", "kennel") == chosen


def test_the_variables_of_a_command(cli, monkeypatch, few, grid, home, tmp_path):
    monkeypatch.setenv("DOGTL_PHOTOS", os.path.relpath(few))
    monkeypatch.setenv("DOGTL_MODULE", os.path.relpath(grid))
    code, out, _ = cli("square")
    assert code == 0 and len(files_of(home / "squares")) == 14
    monkeypatch.setenv("DOGTL_HOME", "mine")
    assert cli("square")[:2] == (0, out.replace(str(home), str(tmp_path / "mine")))
    assert files_of(tmp_path / "mine") == files_of(home)
    for variable, value in (("DOGTL_PHOTOS", "nonsense"), ("DOGTL_SIZE", "1.5")):
        monkeypatch.setenv(variable, value)
        assert cli("square")[0] == 1
    options = ("--photos", few, "--size", 32, "--home", home)
    assert cli("square", *options)[:2] == (0, out)


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
    heavy |= {"dask", "distributed"}
    assert code == 0 and not heavy & set(sys.modules), (command, code)
"""


def test_nothing_heavy_is_imported_for_nothing(options, finished):
    commands = ["--help", "fetch", *COMMANDS, "evaluate --json", "clean"]
    process = python(LIGHT, ",".join(commands), *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not news(err)


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_traceback(options, finished, closed):
    command = ["sh", "-c", f'exec "$0" -m dogtl "$@" {closed}', sys.executable]
    cases = ((["--help"], 0), (["fetch", *options], 0), (["predict", "a"], 1))
    for line, code in cases:
        process = subprocess.run([*command, *line], capture_output=True, text=True)
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr and "Error" not in process.stderr


def test_output_that_nobody_takes(options, finished):
    """As in ``dogtl run | head -1``, and on a full disk."""
    read, write = os.pipe()
    os.close(read)
    for place, expected in ((write, (141, [])), ("/dev/full", (1, [FULL]))):
        if place == write or Path(place).exists():
            command = [sys.executable, "-m", "dogtl", "fetch", *options]
            with open(place, "w") as out:
                process = subprocess.run(command, stdout=out, stderr=-1, text=True)
            assert (process.returncode, messages(process.stderr)) == expected


def test_an_exported_model_predicts_alone(cli, options, few, finished, monkeypatch):
    photos = sorted((few / "test").rglob("*.jpg"))[:2]
    code, out, err = cli("export", *options, "model")
    assert code == 0 and messages(err) == NOTHING
    assert out.endswith(f"]\nmodel in {Path.cwd() / 'model'}\n")  # no figures
    facts = json.loads(Path("model", "model.json").read_text("utf-8"))
    assert facts["photos"] == few.name and facts["n_photos"] == 5
    expected = json.loads(cli("predict", *options, "--json", *photos)[1])
    before = times_of(finished)
    for folder in (few, few / "nothing" / "..", layer_of(finished)):
        code, out, err = cli("export", *options, folder)
        assert code == 1 and not out and "give another folder" in err
    assert times_of(finished) == before
    monkeypatch.setenv("DOGTL_HOME", "nowhere")
    code, out, err = cli("predict", "--model", "model", "--json", *photos, "no.jpg")
    assert code == 1 and messages(err) == ["no.jpg: No such file or directory"]
    assert not Path("nowhere").exists()
    for result, one in zip(json.loads(out), expected, strict=False):
        assert result["photo"] == one["photo"]
        assert result["predictions"][0]["breed"] == one["predictions"][0]["breed"]
    code, out, err = cli("predict", "--model", few, photos[0])
    assert code == 1 and not out and "holds no model" in err
