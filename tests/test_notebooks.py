"""The notebooks as files: what is stored in them, and what a reader can rely on.

That they run, and that the outputs of cells tagged for it hold, is nbval's job.
"""

import json
import re
import statistics
from pathlib import Path

import pytest

import dogtl

SIX_LINES = re.findall(r"^ {4}(\w.*)", dogtl.__doc__, re.M)  # the whole project
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("0*.ipynb"))
CHECKED = "nbval-check-output"


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


def tags(cell: dict) -> list[str]:
    """A cell's tags."""
    return cell["metadata"].get("tags", [])


def test_the_readme_shows_the_whole_project():
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    code = [line.partition("  #")[0].strip() for line in readme.splitlines()]
    assert len(SIX_LINES) == 6
    start = code.index(SIX_LINES[0])
    assert code[start : start + 6] == SIX_LINES


def test_all_are_there():
    numbers = [int(file.name[:2]) for file in NOTEBOOKS]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 6


def test_the_set_up_is_the_six_lines_and_nothing_private(notebook):
    first = "".join(code_cells(notebook)[0]["source"])
    steps = [line for line in first.splitlines() if line in SIX_LINES]
    assert steps == [line for line in SIX_LINES if line in steps] and len(steps) >= 2
    source = "\n".join("".join(cell["source"]) for cell in code_cells(notebook))
    assert not re.search(r"(from|import) dogtl\.|dogtl\._", source)
    assert "end=" not in source and "NBVAL" not in source


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
        if "unstored" in tags(cell):
            assert cell["outputs"] == []
        assert "execution" not in cell["metadata"]


def test_only_what_arithmetic_cannot_move_is_checked_by_nbval(notebook):
    checked = [cell for cell in code_cells(notebook) if CHECKED in tags(cell)]
    assert checked
    moving = r"\d ?%|(accuracy|loss|confidence|probability)\W{1,3}\d|\d\.\d"
    for cell in checked:
        assert cell["outputs"], "nbval compares nothing with a cell without output"
        assert not re.search(moving, texts(cell)), texts(cell)


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
