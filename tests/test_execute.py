"""How notebooks are run, stored and opened: what git and readers see of it."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import HOSTILE

import dogtl

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
sys.path.append(str(NOTEBOOKS))
import execute  # noqa: E402

LANGUAGE = {"codemirror_mode", "file_extension", "mimetype", "name"}
LANGUAGE |= {"nbconvert_exporter", "pygments_lexer", "version"}
OURS, OTHERS = ({"name": "python", "version": text} for text in ("3.11.7", "3.13.1"))


@pytest.mark.parametrize("file", execute.NOTEBOOKS, ids=lambda file: file.stem)
def test_stored_as_jupyterlab_saves_it(file):
    text = file.read_text("utf-8")
    notebook = json.loads(text)
    saved = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)
    assert text == saved + "\n"
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"].keys() == LANGUAGE, "make refresh"


def save(folder: Path, language: dict) -> dict:
    """Save a.ipynb through JupyterLab's hook; return the language it gets."""
    content = nbformat.v4.new_notebook(metadata={"language_info": language})
    model = {"type": "notebook", "content": content}
    manager = SimpleNamespace(root_dir=str(folder))
    execute.keep_language(model=model, path="a.ipynb", contents_manager=manager)
    nbformat.write(content, folder / "a.ipynb")
    return content.metadata.language_info


@pytest.mark.parametrize(
    ("stored", "fresh", "saved"),
    [
        (None, OURS, OURS),  # there's none to keep
        (OURS, OTHERS, OURS),  # another Python leaves it as it was
        ({"name": "python"}, OTHERS, OTHERS),  # it was trimmed
    ],
)
def test_the_language_that_a_notebook_is_saved_with(tmp_path, stored, fresh, saved):
    if stored:
        save(tmp_path, stored)
    assert save(tmp_path, fresh) == saved


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_other_files_are_saved_as_they_are(tmp_path, kind):
    (tmp_path / "a").write_text("text")
    model, manager = {"type": kind}, SimpleNamespace(root_dir=str(tmp_path))
    execute.keep_language(model=model, path="a", contents_manager=manager)
    assert model == {"type": kind}


def test_lab_starts_jupyterlab_with_the_hook_and_the_options_given(monkeypatch):
    started = {}
    monkeypatch.setattr(sys, "argv", ["execute.py", "lab", "--no-browser"])
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)

    def run(command, cwd, **_):
        started.update(command=command, cwd=cwd)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(execute.subprocess, "run", run)
    with pytest.raises(SystemExit) as end:
        execute.lab()
    assert not end.value.code
    assert started["command"][-2:] == ["--allow-root", "--no-browser"]
    hook = "--ContentsManager.pre_save_hook=execute.keep_language"
    assert hook in started["command"] and (started["cwd"] / "execute.py").exists()


KENNEL_S = re.compile(r"kennel|toy module|Afghan")
DRAWN_ONLY = {"changed_dogs", "counterfactuals", "shortcut"}  # not on other photos


@pytest.mark.parametrize(
    ("photos", "module"), [("kennel", "toy"), ("./mine", "mobilenet_v2")]
)
def test_pages_describe_what_they_show(photos, module, tmp_path, monkeypatch):
    monkeypatch.setenv("DOGTL_PHOTOS", photos)
    monkeypatch.setenv("DOGTL_MODULE", module)
    figures, source = tmp_path / "figures", tmp_path / "source"
    figures.mkdir()
    for name in execute.read_captions().keys() - DRAWN_ONLY:
        (figures / f"{name}.png").write_bytes(b"of this run")

    def keep(command, **_):
        shutil.copytree(command[-2], source)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(execute.subprocess, "run", keep)
    lesson = execute.NOTEBOOKS[1]
    notebook = nbformat.read(lesson, as_version=4)
    execute.write_pages({lesson.stem: notebook}, figures, tmp_path)
    gallery = (source / "figures" / "README.md").read_text("utf-8")
    assert f"`{Path(photos).name}`" in gallery and f"`{module}`" in gallery
    given = [cell.metadata.get("mystnb") for cell in notebook.cells]
    alts = [one["image"]["alt"] for one in given if one]
    assert len(alts) >= 3
    texts = [gallery.partition("\n## ")[2], *alts]
    assert bool(KENNEL_S.search("".join(texts))) == (photos == "kennel")
    # what the prose shows stays the project's own, as its alternative text says
    for file in (source / "README.md", source / "notebooks" / lesson.name):
        for shown in re.findall(r"\w+/\w+\.png", file.read_text("utf-8")):
            assert (source / shown).read_bytes() != b"of this run", shown


def test_a_breed_s_name_runs_no_script_on_the_pages(tmp_path, monkeypatch):
    pytest.importorskip("sphinx", reason="the extra `notebooks` brings it")
    monkeypatch.setenv("DOGTL_PHOTOS", str(tmp_path / "a`<svg onload=alert(1)>`"))
    (tmp_path / "figures").mkdir()
    columns = {"photos": [5], "accuracy": [1], "low": [0.5], "high": [1]}
    made = {"breed": [HOSTILE], **columns}
    dogtl.figures.publish(dogtl.figures.per_breed, made, tmp_path / "figures")
    execute.write_pages({}, tmp_path / "figures", tmp_path / "site")
    page = (tmp_path / "site" / "figures" / "README.html").read_text("utf-8")
    assert "&lt;svg onload" in page and "<svg onload" not in page
