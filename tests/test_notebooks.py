"""The notebooks as files: what is stored in them, and what a reader can rely on.

That they run, and that what stands under a check marker holds, is nbval's job.
"""

import json
import re
import statistics
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("0*.ipynb"))
MARKER = "# NBVAL_CHECK_OUTPUT"


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def notebook(request) -> dict:
    """One stored notebook."""
    return json.loads(request.param.read_text("utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    """Its cells with code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def prose(notebook: dict) -> str:
    """All its prose."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def texts(cell: dict) -> str:
    """All the text that a cell has stored."""
    parts = []
    for output in cell["outputs"]:
        parts += output.get("text", [])
        parts += output.get("data", {}).get("text/plain", [])
    return "".join(parts)


def test_all_are_there():
    numbers = [int(file.name[:2]) for file in NOTEBOOKS]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 5


def test_run_top_to_bottom_in_one_fresh_kernel(notebook):
    cells = code_cells(notebook)
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_no_error_no_warning_no_stderr_is_stored(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", texts(cell)
        assert "Warning" not in texts(cell)


def test_no_path_of_a_machine_and_no_timing_is_stored(notebook):
    for cell in code_cells(notebook):
        assert not re.search(r"(^|[\s'\"(])(/|[A-Z]:\\)\w", texts(cell)), texts(cell)
        assert not re.search(r"\d (ms|µs|milliseconds|s a photo)\b", texts(cell))
        if "unstored" in cell["metadata"].get("tags", []):
            assert cell["outputs"] == []
        assert "execution" not in cell["metadata"]


def test_only_what_arithmetic_cannot_move_is_under_a_check_marker(notebook):
    marked = [
        cell for cell in code_cells(notebook) if MARKER in "".join(cell["source"])
    ]
    assert marked
    for cell in marked:
        assert cell["outputs"], "nbval compares nothing with a cell without output"
        assert not re.search(r"\d %|accuracy \d|loss \d|sure", texts(cell)), texts(cell)


def test_opens_and_closes_as_a_lesson(notebook):
    first = "".join(notebook["cells"][0]["source"])
    assert first.startswith("# ")
    for part in ("What you'll do", "What you'll learn", "What you'll need", "How long"):
        assert part in first
    for part in ("## Recap", "## Exercises", "Solutions", "## Further reading"):
        assert part in prose(notebook)


def test_code_cells_are_short_and_prose_is_longer(notebook):
    lines = [
        sum(bool(line.strip()) for line in cell["source"])
        for cell in code_cells(notebook)
    ]
    assert statistics.median(lines) <= 6 and max(lines) <= 14
    assert len(re.findall(r"\w+", prose(notebook))) >= 5 * sum(lines)


def test_prose_stands_between_any_two_code_cells(notebook):
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert ("code", "code") not in zip(kinds, kinds[1:], strict=False)


def test_two_code_cells_never_draw_two_figures_in_one(notebook):
    for cell in code_cells(notebook):
        shown = [output for output in cell["outputs"] if "data" in output]
        assert len(shown) <= 1


def test_links_between_prose_and_references_are_whole(notebook):
    for text, address in re.findall(r"\[([^\]]*)\]\(([^)]*)\)", prose(notebook)):
        assert text and re.fullmatch(r"https://[\w.-]+/\S+", address), address


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_each_is_under_a_megabyte(file):
    assert file.stat().st_size < 1_000_000
