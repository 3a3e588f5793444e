"""Progress bars show where they should; names can't command a terminal."""

import logging
import os

import nbformat
import pytest
from nbclient import NotebookClient

from dogtl.base import log, progress
from dogtl.terminal import Formatter, printable

CELL = """from dogtl.base import progress
assert list(progress(iter("abc"), 3, "letters")) == list("abc")
with progress(None, 3, "bytes") as bar:
    bar.update(3)"""
WITHOUT_WIDGETS = "import sys\nsys.modules['ipywidgets'] = None\n"
WIDGET = "application/vnd.jupyter.widget-view+json"


def outputs(code: str, hidden: str) -> list:
    """What a notebook's cell leaves, with or without its bars hidden."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = NotebookClient(notebook, extra_arguments=["--log-level=ERROR"])
    client.execute(env=os.environ | {"TQDM_DISABLE": hidden})
    return notebook.cells[0].outputs


@pytest.mark.parametrize("code", [CELL, WITHOUT_WIDGETS + CELL])
def test_hidden_bars_leave_nothing_in_a_notebook(code):
    assert outputs(code, "1") == []


def test_a_notebook_shows_widgets_and_no_standard_error():
    pytest.importorskip("ipywidgets")
    shown = outputs(CELL, "0")
    assert len(shown) == 2 and all(WIDGET in output["data"] for output in shown)


def test_a_notebook_without_ipywidgets_shows_text_and_no_warning():
    shown = outputs(WITHOUT_WIDGETS + CELL, "0")
    text = "".join(output["text"] for output in shown)
    assert "letters: 100%" in text and "Warning" not in text


def test_a_log_of_warnings_alone_hides_them(monkeypatch, capfd):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    for level, shown in ((logging.WARNING, False), (logging.INFO, True)):
        monkeypatch.setattr(log, "level", level)
        assert list(progress("abc", 3, "letters")) == list("abc")
        assert ("letters" in capfd.readouterr().err) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ünï 犬 🐶 'a' \"b\" <b> \\.jpg", None),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\t\0\x7f\x9b", r"a\r\nb\t\x00\x7f\x9b"),
        ("\u202egpj.exe\u2028\udce9", r"\u202egpj.exe\u2028\udce9"),
    ],
)
def test_names_cannot_command_a_terminal(name, shown):
    record = logging.makeLogRecord({"msg": "skipped %s: %d", "args": (name, 5)})
    assert printable(name) == (shown or name)
    assert Formatter().format(record) == f"skipped {shown or name}: 5"
