"""Every command and every line of Python in the README, run as it's written.

So are those of CONTRIBUTING.md and TEACHING.md. The folder they run in holds what a
reader would have. What the internet would send comes from this machine: a few photos,
and small networks in place of the large ones. A cluster is one worker in this process.
"""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from copy import copy
from pathlib import Path

import pytest
from conftest import draw_photos
from distributed import LocalCluster
from http_server import tarred
from light import sketch
from markdown_it import MarkdownIt

import dogtl
from dogtl import cli, modules
from dogtl.base import log

ROOT = Path(__file__).parent.parent
PROGRAMS = {"conda", "dask", "dogtl", "export", "jupyter", "make", "pip", "pytest"}
PROGRAMS |= {"python", "python3", "source"}
PYTHON = re.compile(r"(dogtl|tf)\.[\w.]+( = |\()[^…]*")  # not just a name
# What would take too long, or need what isn't here, and what runs in its place, in the
# project's folder. Other tests run notebooks/execute.py and the notebooks themselves.
INSTEAD = {
    r"make (.+)": r"make -n \1",
    r"(?:\.venv/bin/)?pip (?:install|download) .*": "true",  # see check_packages
    r"(python3?) -m venv .venv": r"\1 -m venv -h",
    r"source .venv/bin/activate": "grep ' -m venv .venv' Makefile",
    r"conda env create -f (\S+)": r"grep 'name: dogtl' \1",
    r"conda activate (\S+)": r"grep 'name: \1' environment.yml",
    r"jupyter lab": "command -v jupyter-lab",
    r"jupyter execute --inplace (\S+)": r"command -v jupyter-execute && test -f \1",
    r"(?:\.venv/bin/)?python notebooks/execute.py (\w+)": (
        r"grep 'python notebooks/execute.py \1 ' notebooks/execute.py"
    ),
    r"(?:\.venv/bin/python -m )?pytest (tests\S*)": r"test -e \1",
    r"pytest (--nbval.*)": r"grep -- '\1' Makefile",
    r"python (tests/\w+\.py) .*": r"test -f \1",
    r"ruff format \.": "ruff format --check .",
    r"cp -a": "cp --help",
    r"dask (scheduler|worker)": "command -v dask",
    r"\S+=1 dask worker \S+ (--\w+) \d+ (--\w+) \d+": (
        r"dask worker --help | grep -cE '^ +(\1|\2) ' | grep 2"
    ),
}
# The README only mentions these; they need a photo or a folder as well.
ARGUMENT = {
    "dogtl predict": "holiday.jpg",
    "dogtl predict --json": "holiday.jpg",
    "dogtl export": "./my_model",
}


@pytest.fixture
def place(web, grid, colours, keras_file, tmp_path, monkeypatch) -> Path:
    """The current folder, with a reader's photos and modules, and no internet."""
    one_split = draw_photos(tmp_path / "drawn", counts={"train": (10, 9, 10)})
    for name in ("mine", "ours", "shared/mine"):
        shutil.copytree(one_split / "train", tmp_path / name)
    photo = next((tmp_path / "mine").glob("*/*.jpg"))
    (tmp_path / "holidays").mkdir()
    for name in ("holiday.jpg", "holidays/1.jpg", "holidays/2.jpg"):
        shutil.copy(photo, tmp_path / name)
    shutil.copytree(colours, tmp_path / "some_saved_model")
    shutil.copy(keras_file, tmp_path / "mine.keras")
    shutil.copytree(ROOT / "figures", tmp_path / "figures")

    counts = dict.fromkeys(("train", "valid", "test"), (4, 4, 4))
    dogs = draw_photos(tmp_path / "dogs", counts=counts)
    web.serve("dogs.tar.gz", tarred(dogs, "dogImages/"))
    for name in ("mobilenet_v2", "inception_v3"):
        web.serve(name, tarred(colours))
        size = modules.MODULES[name][1]
        monkeypatch.setitem(modules.MODULES, name, (web.address(name), size))
    use_small_network(monkeypatch)
    # the one that another process draws again, in a style of its own, is enough
    monkeypatch.setattr(dogtl.figures, "publish", sketch)
    for thing, name in (
        (dogtl.figures, "STYLE"),
        (dogtl.figures, "COLUMN_WIDTH"),
        (logging.root, "handlers"),
        (log, "level"),
    ):  # what the page, or a command, changes
        monkeypatch.setattr(thing, name, copy(getattr(thing, name)))
    for name, value in {
        "DOGTL_PHOTOS": "./mine",  # where a command names no photos, no module
        "DOGTL_MODULE": str(grid),
        "DOGTL_DOGS_URL": web.address("dogs.tar.gz"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def use_small_network(monkeypatch) -> None:
    """Let Keras build a small network with random weights as its InceptionV3."""
    dogtl.import_tensorflow()
    from keras import Input, Sequential, applications, layers

    def small(input_shape=(299, 299, 3), **_):
        pool = layers.GlobalMaxPooling2D()
        return Sequential([Input(input_shape), layers.Conv2D(4, 9, 9), pool])

    small.__module__ = applications.InceptionV3.__module__
    monkeypatch.setattr(applications, "InceptionV3", small)


class Reader:
    """Somebody who types what a page says, line by line."""

    def __init__(self, monkeypatch, scheduler: str):
        self.monkeypatch = monkeypatch
        self.names = {"dogtl": dogtl, "tf": dogtl.import_tensorflow()}
        self.changes = {  # to names and numbers that differ from reader to reader
            "/path/to/python3.12": sys.executable,
            "tcp://10.0.0.1:8786": scheduler,
            "/shared/": f"{os.getcwd()}/shared/",
            "/srv/": f"{os.getcwd()}/srv/",
        }

    def read(self, file: Path) -> None:
        """Do all that the page says."""
        for token in MarkdownIt().enable("table").parse(file.read_text("utf-8")):
            if token.type in ("code_block", "fence"):
                self.follow(token.content)
            for span in token.children or []:
                text = " ".join(span.content.split())
                if span.type != "code_inline":
                    continue
                if PYTHON.fullmatch(text) or (" " in text and is_command(text)):
                    self.follow(f"{text} {ARGUMENT.get(text, '')}".strip())

    def follow(self, code: str) -> None:
        """Write a block into the file it names, or run it: as commands or as Python."""
        for here, there in self.changes.items():
            code = code.replace(here, there)
        lines = code.replace("\\\n", " ").strip().splitlines()
        if named := re.fullmatch(r"# (\S+\.\w+)", lines[0]):
            Path(named[1]).write_text(code)
        elif re.match(r"\w+/ ", lines[0]):  # what is where
            for path in re.findall(r"^[\w.]+(?:/|\.md)", code, re.MULTILINE):
                assert (ROOT / path).exists(), path
        elif is_command(lines[0]):
            for line in lines:
                self.type(line.partition("  #")[0].strip())
        else:
            exec(compile(code, "<the page>", "exec"), self.names)

    def type(self, line: str) -> None:
        """Run one command."""
        assert is_command(line), line
        words = shlex.split(line)
        for pattern, other in INSTEAD.items():
            if re.fullmatch(pattern, line):
                check_packages(line)
                run(re.sub(pattern, other, line), ROOT)
                return
        if words[0] == "export":
            self.monkeypatch.setenv(*words[1].split("=", 1))
        elif "dogtl" in words:
            start = words.index("dogtl")
            with self.monkeypatch.context() as patch:
                for variable in words[:start]:
                    patch.setenv(*variable.split("=", 1))
                assert cli.main(words[start + 1 :]) == 0, line
        else:
            run(line, Path.cwd())


def is_command(line: str) -> bool:
    """Return whether a line starts with a program, after variables if need be."""
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    program = words[0].removeprefix(".venv/bin/")
    return len(words) > 1 and (program in PROGRAMS or bool(shutil.which(program)))


def run(command: str, folder: Path) -> None:
    """Run a command in another process."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def check_packages(line: str) -> None:
    """Check that the constraints and the extras that a line names exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for file in re.findall(r"-c (\S+)", line):
        assert (ROOT / file).exists(), line
    for extras in re.findall(r"\.\[(.*?)\]", line):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), line


@pytest.fixture
def reader(place, monkeypatch):
    """A reader in that folder, with a cluster."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    options |= {"processes": False, "protocol": "tcp", "silence_logs": 50}
    with LocalCluster(**options) as cluster:
        reader = Reader(monkeypatch, cluster.scheduler_address)
        yield reader
        if client := reader.names.get("client"):
            client.close()


def test_the_readme_works_as_written(reader, place):
    reader.read(ROOT / "README.md")
    made = ("mine.csv", "dogs.csv", "my_model/saved_model.pb", "figures/per_breed.svg")
    assert all((place / name).exists() for name in made)
    with pytest.raises(AssertionError, match="unheard"):
        reader.type("unheard of")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "TEACHING.md"])
def test_other_pages_work_as_written(reader, name):
    reader.read(ROOT / name)
