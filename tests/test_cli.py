"""The command line: results, messages, exit codes, and nothing imported for nothing."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import files_of, python, times_of
from PIL import Image

from dogtl.choices import DogtlError, choose, find_root, key
from dogtl.cli import main
from dogtl.evaluation import evaluate, predict, summary

COMMANDS = ("square", "extract", "train", "evaluate", "run")


@pytest.fixture
def dogtl(capfd):
    """Run a command here; gives its exit code, standard output and standard error."""
    handlers, level = logging.root.handlers[:], logging.getLogger("dogtl").level

    def run(*arguments):
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    yield run
    logging.root.handlers[:] = handlers
    logging.getLogger("dogtl").setLevel(level)


@pytest.fixture
def options(photos, grid, tmp_path):
    """The shared photos and a module, in an empty home."""
    return ["--photos", photos, "--module", grid, "--home", tmp_path / "home"]


@pytest.fixture(scope="module")
def drawn(done, tmp_path_factory):
    """A home in which all of it ran; it is shared: take a copy to change it."""
    home = tmp_path_factory.mktemp("drawn") / "home"
    options = ["--photos", done.photos, "--module", done.module, "--home", str(home)]
    handlers = logging.root.handlers[:]
    assert main(["run", *options]) == 0
    logging.root.handlers[:] = handlers
    return home


@pytest.fixture
def finished(done, drawn, tmp_path):
    """The same, with a finished home of one's own."""
    home = shutil.copytree(drawn, tmp_path / "finished")
    return ["--photos", done.photos, "--module", done.module, "--home", home]


def messages(err: str) -> list[str]:
    """What was said on standard error; nobody but dogtl may speak there."""
    lines = err.splitlines()
    assert all(line.startswith("dogtl: ") for line in lines), err
    return [line.removeprefix("dogtl: ") for line in lines]


# --- every command -----------------------------------------------------------------


@pytest.mark.parametrize("command", ["square", "extract", "train"])
def test_every_command_from_an_empty_home(dogtl, options, command):
    code, out, err = dogtl(command, *options)
    assert code == 0 and out and messages(err) == []
    again, out_again, err = dogtl(command, *options)
    assert (again, out_again) == (0, out)
    assert messages(err)[0] == "squares: nothing to do"
    assert all("nothing to do" in line for line in messages(err))


def test_the_steps_after_one_another_leave_what_run_leaves(dogtl, options, drawn):
    for command in COMMANDS[:-1]:
        assert dogtl(command, *options)[0] == 0
    before, other = files_of(options[-1]), files_of(drawn)
    assert {name: other[name] for name in before} == before
    new = {Path(name).name for name in other.keys() - before.keys()}
    figures = (
        "confused_pairs",
        "confusion",
        "learning_curves",
        "mistakes",
        "per_breed",
    )
    assert {f"{name}.{s}" for name in figures for s in ("png", "pdf")} <= new
    assert all(name.startswith("figures") for name in other.keys() - before.keys())


def test_run_with_nothing_to_do_says_the_same_and_writes_nothing(dogtl, finished):
    before = times_of(finished[-1])
    code, out, _ = dogtl("run", *finished)
    again, out_again, err = dogtl("run", *finished)
    assert (code, again, out_again) == (0, 0, out)
    assert times_of(finished[-1]) == before
    steps = ["squares", "bottlenecks of train", "bottlenecks of valid"]
    steps += ["bottlenecks of test", "linear layer", "figures"]
    assert messages(err) == [f"{step}: nothing to do" for step in steps]
    assert "accuracy" in out.splitlines()[-1]


def test_train_prints_every_epoch(dogtl, finished):
    _, out, _ = dogtl("train", *finished)
    header, *rows, last = out.splitlines()
    names = "epoch train_loss valid_loss train_accuracy valid_accuracy"
    assert header.split() == names.split()
    assert [int(row.split()[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 10 and all(len(row.split()) == 5 for row in rows)
    assert last.startswith("linear layer")


# --- JSON --------------------------------------------------------------------------

KEYS = ["accuracy", "interval", "top5", "n_photos", "n_breeds", "n_left_out"]
KEYS += ["photos", "module"]


def test_evaluate_json(dogtl, finished, done):
    code, out, err = dogtl("evaluate", *finished, "--json")
    facts = json.loads(out)
    assert code == 0 and list(facts) == KEYS
    assert facts == summary(evaluate(done), done)
    assert (facts["photos"], facts["module"]) == (done.photos, done.module)
    assert facts["top5"] is None and facts["n_breeds"] == 3
    messages(err)
    assert f"accuracy {facts['accuracy']:.3f}" in dogtl("evaluate", *finished)[1]


def test_evaluate_json_of_seven_breeds(dogtl, seven):
    command = ["evaluate", "--json", "--photos", seven.photos, "--module", seven.module]
    code, out, _ = dogtl(*command, "--size", seven.size, "--home", seven.home)
    facts = json.loads(out)
    assert code == 0 and (facts["n_breeds"], facts["n_photos"]) == (7, 21)
    low, high = facts["interval"]
    assert low <= facts["accuracy"] <= high and facts["accuracy"] <= facts["top5"] <= 1


def test_predict_on_an_empty_machine(dogtl, options, photos):
    path = photos / "test" / "001.Red_setter" / "dog_00.jpg"
    code, out, err = dogtl("predict", path, *options, "--json")
    (result,) = json.loads(out)
    assert code == 0 and messages(err) == [] and list(result) == ["photo", "guesses"]
    assert result["photo"] == str(path) and len(result["guesses"]) == 3
    assert all(list(guess) == ["breed", "probability"] for guess in result["guesses"])
    assert sum(g["probability"] for g in result["guesses"]) == pytest.approx(
        1, abs=1e-5
    )
    best = result["guesses"][0]
    code, out, _ = dogtl("predict", path, *options)
    first, second = out.splitlines()[:2]
    assert code == 0 and first == str(path)
    assert second.split() == [f"{best['probability']:.1%}", best["breed"]]


def test_predict_with_bad_photos(dogtl, finished, photos, tmp_path, done):
    good = photos / "test" / "002.Grass_hound" / "dog_00.jpg"
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    asked = ["bad.jpg", str(good), "missing.jpg"]
    code, out, err = dogtl("predict", *asked, *finished, "--json")
    results = json.loads(out)
    assert code == 1 and [result["photo"] for result in results] == asked
    assert [list(result)[1] for result in results] == ["error", "guesses", "error"]
    assert results == predict(done, asked)
    said = [line for line in messages(err) if "nothing to do" not in line]
    assert [line.split(":")[0] for line in said] == ["bad.jpg", "missing.jpg"]
    code, out, err = dogtl("predict", *asked, *finished)
    assert code == 1 and out.startswith(str(good)) and "missing.jpg" not in out


# --- bad photos --------------------------------------------------------------------


def test_photos_left_out_are_counted(dogtl, mine, grid, tmp_path):
    for place in ("train/001.Red_setter/bad.jpg", "test/002.Grass_hound/bad.png"):
        (mine / place).write_bytes(b"no image")
    (mine / "valid" / "stray.txt").write_text("stray")
    options = ["--photos", mine, "--module", grid, "--home", tmp_path / "home"]
    for _ in range(2):
        code, out, err = dogtl("evaluate", *options, "--json")
        assert code == 0 and json.loads(out)["n_left_out"] == 3
        said = messages(err)
        assert "3 photos left out" in said
        assert sum(line.startswith("left out ") for line in said) == 3
    assert "3 left out" in dogtl("square", *options)[1]
    code, out, err = dogtl("evaluate", *options, "--strict")
    assert (code, out) == (1, "") and "cannot be used" in messages(err)[-1]


def test_strict_stops_at_a_bad_photo_and_is_content_with_good_ones(
    dogtl, mine, grid, tmp_path
):
    options = ["--photos", mine, "--module", grid, "--home", tmp_path / "home"]
    assert dogtl("square", "--strict", *options)[0] == 0
    (mine / "test/001.Red_setter/bad.jpg").write_bytes(b"no image")
    code, out, err = dogtl("run", "--strict", *options)
    assert (code, out) == (1, "")
    assert "test/001.Red_setter/bad.jpg" in messages(err)[-1]


def test_names_that_are_no_unicode(dogtl, mine, grid, tmp_path):
    odd = os.fsdecode(b"004.caf\xe9 $x$ hound")
    try:
        for split in ("train", "valid", "test"):
            source = mine / split / "001.Red_setter"
            shutil.copytree(source, mine / split / odd)
    except OSError:
        pytest.skip("this file system takes Unicode only")
    folder = mine.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    (folder / "test" / odd / os.fsdecode(b"bad\xe9.jpg")).write_bytes(b"no image")
    options = ["--photos", folder, "--module", grid, "--home", tmp_path / "home"]
    for _ in range(2):
        code, out, err = dogtl("run", *options)
        assert code == 0 and "1 left out" in out and "bad\\udce9.jpg" in err
    code, out, _ = dogtl("evaluate", *options, "--json")
    assert code == 0 and json.loads(out)["photos"] == str(folder)
    path = next((folder / "test" / odd).glob("dog_*"))
    code, out, _ = dogtl("predict", path, *options)
    assert code == 0 and "004.caf\\udce9" in out


# --- mistakes ----------------------------------------------------------------------


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
        ("square --photos ./none --module M", "./none|/none"),
        ("square --photos ./file --module M", "there is no folder"),
        ("square --photos ./empty --module M", "train"),
        ("square --photos ./stranger --module M", "999.Cat"),
        ("run --photos puppies --module M", "kennel"),
        ("run --photos https://127.0.0.1:9/x --module M", "folder"),
        ("run --photos P --module inception", "toy"),
        ("run --photos P --module ./none", "./none|/none"),
        ("run --photos P --module ./file", "no module folder"),
        ("run --photos P --module ./empty", "cannot be loaded"),
        ("run --photos P --module C", "--size"),
        ("train --photos P --module M --size 33", "32 pixels, not of 33"),
        ("extract --photos P --module M --home ./file", "file"),
        ("extract --photos P --module M --home ./file/deeper", "file"),
        ("predict missing.jpg --photos ./none --module M", "./none|/none"),
        ("evaluate --json --photos ./none --module M", "./none|/none"),
    ],
)
def test_a_mistake_gets_one_sentence(dogtl, world, line, named):
    words = [world.get(word, word) for word in line.split()]
    code, out, err = dogtl(*words)
    assert (code, out) == (1, "")
    said = [line for line in messages(err) if "nothing to do" not in line]
    assert len(said) == 1 and any(name in said[0] for name in named.split("|")), err


@pytest.mark.parametrize(
    "line",
    [
        *("", "bark", "predict", "square --siz", "square --size", "square extra"),
        *(
            f"square --size {size}"
            for size in ("0", "-3", "abc", "1.5", "²", "1e3", "9" * 99)
        ),
        *("train --seed x", "train --seed -1", "train --seed 1.5", "square --json"),
        *("--photos ./a square", "evaluate --home"),
    ],
)
def test_wrong_usage(dogtl, line):
    code, out, err = dogtl(*line.split())
    assert (code, out) == (2, "") and err.startswith("usage: dogtl")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize("size", ["abc", "0", "-1", "1.5", "²", "32 ", "4097"])
def test_a_bad_size_in_the_variable(dogtl, options, monkeypatch, size):
    monkeypatch.setenv("DOGTL_SIZE", size)
    code, out, err = dogtl("square", *options)
    assert (code, out) == (1, "") and "DOGTL_SIZE" in messages(err)[-1]
    assert dogtl("square", *options, "--size", "32")[0] == 0


def test_help(dogtl):
    code, out, err = dogtl("--help")
    assert (code, err) == (0, "")
    assert all(command in out for command in (*COMMANDS, "predict", "DOGTL_HOME"))
    code, out, _ = dogtl("evaluate", "--help")
    options = ("photos", "module", "size", "home", "seed", "strict", "json")
    assert code == 0 and all(f"--{option}" in out for option in options)


# --- what is chosen, and where it lies ---------------------------------------------


def test_the_defaults(tmp_path):
    choice = choose()
    assert (choice.photos, choice.module, choice.size) == ("kennel", "toy", None)
    assert choice.home == tmp_path / "data" and choice.seed == 0


def test_variables_and_arguments(monkeypatch, tmp_path):
    for name in ("PHOTOS", "MODULE", "HOME"):
        monkeypatch.setenv(f"DOGTL_{name}", f"./from_{name.lower()}")
    monkeypatch.setenv("DOGTL_SIZE", "99")
    choice = choose()
    assert choice.photos == str(tmp_path / "from_photos")
    assert choice.module == str(tmp_path / "from_module")
    assert (choice.home, choice.size) == (tmp_path / "from_home", 99)
    choice = choose("./a", "./b", 7, "c", seed=3, strict=True)
    assert (choice.photos, choice.module) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert (choice.home, choice.size, choice.seed) == (tmp_path / "c", 7, 3)
    assert choice.strict
    assert choose("kennel", "https://tfhub.dev/x/1").module == "https://tfhub.dev/x/1"
    assert choose(Path("word")).photos == str(tmp_path / "word")


def test_empty_variables_are_none(monkeypatch, tmp_path):
    for name in ("PHOTOS", "MODULE", "HOME", "SIZE"):
        monkeypatch.setenv(f"DOGTL_{name}", "")
    assert choose() == choose("kennel", "toy", home=tmp_path / "data")


def test_a_checkout_has_one_home_for_all_its_folders(monkeypatch, tmp_path):
    root, inside = tmp_path / "checkout", tmp_path / "checkout" / "notebooks" / "deeper"
    inside.mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "dogtl"\n')
    (root / "notebooks" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    monkeypatch.chdir(inside)
    assert find_root(Path.cwd()) == root and choose().home == root / "data"
    monkeypatch.setenv("DOGTL_PHOTOS", "../real/dogs")
    monkeypatch.setenv("DOGTL_HOME", "elsewhere")
    choice = choose(module="../module")
    assert choice.photos == str(tmp_path / "real" / "dogs")
    assert choice.module == str(root / "notebooks" / "module")
    assert choice.home == root / "elsewhere"
    assert choose(home="here").home == inside / "here"


@pytest.mark.parametrize("text", ["", "nonsense [", "[tool]\nx = 1\n", "\xff"])
def test_somebody_else_s_project_is_no_checkout(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text, "latin-1")
    assert find_root(tmp_path) == tmp_path and choose().home == tmp_path / "data"


def test_choose_refuses_a_size_that_is_none():
    for size in ("abc", -1, 0, 1.5, 10**8):
        with pytest.raises(DogtlError):
            choose(size=size)


def test_the_variables_of_a_run(dogtl, monkeypatch, photos, grid, tmp_path):
    monkeypatch.setenv("DOGTL_PHOTOS", os.path.relpath(photos))
    monkeypatch.setenv("DOGTL_MODULE", os.path.relpath(grid))
    code, out, _ = dogtl("square")
    assert code == 0 and (tmp_path / "data" / "squares").is_dir()
    monkeypatch.setenv("DOGTL_HOME", "mine")
    assert dogtl("square")[0] == 0
    one, two = files_of(tmp_path / "data"), files_of(tmp_path / "mine")
    assert one == two and len(one) > 50
    monkeypatch.setenv("DOGTL_PHOTOS", "nonsense")
    assert dogtl("square")[0] == 1
    assert dogtl("square", "--photos", photos)[:2] == (
        0,
        out.replace("/data/", "/mine/"),
    )


def test_keys_are_readable_and_differ():
    values = ["kennel", "./a", "/a", "/b/a", "/a-b", "/a_b", "https://h/x/a/1"]
    values += ["https://h/x/b/1", "https://h/x/a/2", "/a b", "/kennel", "/" + "x" * 300]
    keys = [key(value) for value in values]
    assert len(set(keys)) == len(values) and keys[0] == "kennel"
    assert all(len(k) < 80 and "/" not in k and k.strip(".") for k in keys)
    assert keys[6].startswith("x-a-1-") and keys[2].startswith("a-")


def test_two_photos_modules_and_sizes_never_overwrite_one_another(
    dogtl, photos, many, grid, colours, tmp_path
):
    seen = {}
    choices = [("train", photos, grid, 32), ("train", many, grid, 32)]
    choices += [("train", photos, colours, 32), ("extract", photos, colours, 20)]
    for command, folder, module, size in choices:
        options = ["--photos", folder, "--module", module, "--size", size]
        code, out, _ = dogtl(command, *options, "--home", tmp_path / "home")
        after = files_of(tmp_path / "home")
        assert code == 0 and {name: after[name] for name in seen} == seen
        assert len(after) > len(seen)
        seen = after
    code, _, err = dogtl(
        *("train", "--photos", photos, "--module", grid, "--home", tmp_path / "home")
    )
    assert code == 0 and len(messages(err)) == 5  # nothing to do, five times


def test_seeds_lie_apart(dogtl, finished):
    out = [dogtl("evaluate", *finished, "--json", "--seed", seed)[1] for seed in (0, 7)]
    assert all(json.loads(text) for text in out)
    assert [f.name for f in sorted(finished[-1].rglob("seed-*.npz"))] == [
        *("seed-0.npz", "seed-7.npz")
    ]


# --- other processes ---------------------------------------------------------------

HEAVY = """
import sys
import dogtl.cli
def heavy():
    return sorted({"tensorflow", "keras", "tensorflow_hub", "PIL", "matplotlib"}
        & set(sys.modules))
assert not heavy(), heavy()
for command in sys.argv[1].split(","):
    try:
        code = dogtl.cli.main([*command.split(), *sys.argv[2:]])
    except SystemExit as stop:
        code = stop.code
    assert code == 0 and not heavy(), (command, code, heavy())
"""


def test_nothing_heavy_is_imported_for_nothing(finished):
    commands = ["--help", "square", "extract", "train", "evaluate", "evaluate --json"]
    process = python(HEAVY, ",".join([*commands, "run"]), *finished)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert messages(err)[-1] == "figures: nothing to do"


def test_two_processes_at_once(options, drawn):
    command = [sys.executable, "-m", "dogtl", "run", *map(str, options)]
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    (out, err), (other_out, other_err) = outputs
    assert out == other_out and "accuracy" in out
    messages(err + other_err)
    assert files_of(options[-1]) == files_of(drawn)


def test_a_copied_home_goes_on_elsewhere(done, tmp_path):
    home = shutil.copytree(done.home, tmp_path / "moved")
    before = times_of(home)
    moved = evaluate(replace(done, home=home))
    assert times_of(home) == before and moved.accuracy == evaluate(done).accuracy


def test_a_small_photo_of_one_pixel(dogtl, finished, tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    code, out, _ = dogtl("predict", "dot.png", *finished, "--json")
    assert code == 0 and json.loads(out)[0]["guesses"]
