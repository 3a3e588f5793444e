"""How notebooks are run, stored and opened: what git and readers see of it."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

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


def test_another_python_leaves_a_notebook_as_it_was(tmp_path):
    assert save(tmp_path, OURS) == OURS  # there's none to keep
    assert save(tmp_path, OTHERS) == OURS


def test_a_language_that_was_trimmed_is_filled_in(tmp_path):
    assert save(tmp_path, {"name": "python"}) == {"name": "python"}
    assert save(tmp_path, OTHERS) == OTHERS


@pytest.mark.parametrize("model", [{"type": "file"}, {"type": "directory"}])
def test_other_files_are_saved_as_they_are(tmp_path, model):
    (tmp_path / "a").write_text("text")
    manager = SimpleNamespace(root_dir=str(tmp_path))
    execute.keep_language(model=model, path="a", contents_manager=manager)
    assert model.keys() == {"type"}


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
