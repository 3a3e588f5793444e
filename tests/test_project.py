"""The project's own files: packages in step, a wheel that works, nothing private."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from bench import MARKERS, rewrite

import dogtl

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LISTED = {"tensorflow", "tensorflow-hub", "numpy", "scipy", "pillow", "matplotlib"}
LISTED |= {"jupyterlab", "nbval"}


def requirements() -> dict[str, str]:
    """All packages that pyproject.toml names, each with its range."""
    lines = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)


OURS = ("dogtl", "tests", "notebooks", "figures", ".ci", ".github")


def project_files() -> list[Path]:
    """The project's own files, with or without git around them."""
    files = [file for file in ROOT.iterdir() if file.is_file()]
    for folder in OURS:
        files += [file for file in (ROOT / folder).rglob("*") if file.is_file()]
    made = {"__pycache__", ".ipynb_checkpoints", "my_photos"}
    return [file for file in files if not made & set(file.parts)]


def test_environment_yml_is_in_step_with_pyproject():
    text = (ROOT / "environment.yml").read_text("utf-8")
    listed = yaml.safe_load(text)["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    named = [re.fullmatch(r"([a-z][\w-]+)(.*)", line) for line in pip]
    ranges = dict(match.groups() for match in named if match)
    assert ranges.keys() == LISTED
    assert ranges == {name: requirements()[name] for name in LISTED}
    assert f"python{PROJECT['requires-python']}" in listed
    for name in LISTED:  # a reason stands beside each
        assert re.search(rf"^ +- {name}[^\n]* # \w+", text, re.MULTILINE), name


def test_constraints_hold_what_is_installed_and_name_no_address():
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    here = {pin.name: pin for pin in pins if not pin.marker or pin.marker.evaluate()}
    for name in requirements():
        pin = str(here[name].specifier)
        with suppress(PackageNotFoundError):  # the extra `bench` is only for the bench
            assert pin == f"=={version(name)}", name
    assert not any("://" in line or "@" in line for line in lines)


def test_files_name_no_machine_and_no_registry():
    hosts = (
        "py" + r"pi\.org",
        "pytho" + "nhosted",
        "npm" + "js",
    )  # not named here either
    private = re.compile("|".join([r"/(work|root)/|/home/\w+/|/tmp/\w", *hosts]))
    suffixes = {".py", ".md", ".toml", ".yml", ".txt", ".ipynb", ".csv", ".json"}
    files = [file for file in project_files() if file.suffix in suffixes]
    assert len(files) > 50
    for file in files:
        if file.name != Path(__file__).name:
            found = private.search(file.read_text("utf-8"))
            assert not found, f"{file.name}: {found and found.group()}"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A clone of the project, as far as installing it needs; its folder is dogtl."""
    source = tmp_path_factory.mktemp("clone") / "dogtl"
    for file in project_files():
        if file.is_relative_to(ROOT / "dogtl") or file.parent == ROOT:
            copy = source / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return source


def run(*command, cwd=None, **variables) -> subprocess.CompletedProcess:
    """Run Python with the package's place and the home left to it, unless given."""
    ours = {"PYTHONPATH", "DOGTL_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=True,
    )


PIP = ("-m", "pip", "--quiet")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory) -> Path:
    """The project as a wheel, unpacked into an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", folder, source)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_tests_are_not_much_longer_than_what_they_test():
    def n_lines(folder: str) -> int:
        files = (ROOT / folder).rglob("*.py")
        return sum(file.read_text("utf-8").count("\n") for file in files)

    assert n_lines("tests") < 1.5 * n_lines("dogtl")


def test_papers_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == dogtl.__version__ and citation["cff-version"]
    assert citation["license"] == PROJECT["license"]
    news = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## {dogtl.__version__} " in news


def test_what_the_papers_name_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split())
    for name in ("CONTRIBUTING.md", "TEACHING.md"):
        text = (ROOT / name).read_text("utf-8")
        named = set(re.findall(r"`make ([\w-]+)", text))
        assert named <= targets and (name[0] == "T" or named == targets), name
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / link).exists(), link
    lessons = (ROOT / "TEACHING.md").read_text("utf-8")
    for file in (ROOT / "notebooks").glob("0*.ipynb"):
        assert f"(notebooks/{file.name})" in lessons


def test_what_you_can_rely_on_names_tests_that_exist():
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## What you can rely on\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", section)
    assert len(named) > 14
    for file, name in named:
        text = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^def {name or 'test_'}", text, re.MULTILINE), (file, name)
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert all("`tests/" in row for row in rows[2:])


def test_the_readme_has_a_place_for_the_table_of_the_bench():
    text, (begin, end) = (ROOT / "README.md").read_text("utf-8"), MARKERS
    before, after = text.split(begin)[0], text.split(end)[1]
    new = rewrite(text, "| a |\n")
    assert new == f"{before}{begin}\n| a |\n\n{end}{after}"
    assert rewrite(new, "| a |\n") == new


def test_an_editable_install_is_found_beside_a_clone_called_dogtl(source, tmp_path):
    run(*PIP, "install", *OFFLINE, "--target", tmp_path, "--editable", source)
    program = f"import site; site.addsitedir({str(tmp_path)!r})\n"
    program += "import dogtl; print(dogtl.__version__)"
    found = run("-c", program, cwd=source.parent).stdout
    assert found == f"{dogtl.__version__}\n"


def test_wheel_works_in_an_empty_folder(installed, photos, tmp_path):
    place = {"cwd": tmp_path, "PYTHONPATH": str(installed)}
    where = run("-c", "import dogtl; print(dogtl.__file__)", **place).stdout
    assert where.startswith(str(installed))
    done = run("-m", "dogtl", "extract", "--photos", photos, **place)
    assert done.stderr.count(f"results go to {tmp_path / 'data'}") == 1
    last = done.stdout.splitlines()[-1]
    assert last == "test: 15 bottlenecks of 256 features, 3 breeds"
    assert (tmp_path / "data" / "bottlenecks").is_dir()
    draws = (
        "from dogtl.toy.kennel import draw_one, photo_list\n"
        "draw_one(photo_list()[0].path)\n"
        "from dogtl import figures\n"
        "figures.gallery([], [])"
    )
    run("-c", draws, **place)
