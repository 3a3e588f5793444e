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
FOLDER = Path(__file__).parent.parent / "notebooks"
FIGURES = FOLDER.parent / "figures"
NOTEBOOKS = sorted(FOLDER.glob("0*.ipynb"))
CHECKED = "nbval-check-output"
AT_LEAST = """transfer learning; pretrained model; backbone; head; feature extraction;
feature vector; embedding; linear probe; fine-tuning; frozen; convolution; ReLU;
feature map; global average pooling; class; classifier; preprocessing; interpolation;
Nyquist limit; aliasing; grayscale; data augmentation; logits; softmax; cross-entropy;
negative log-likelihood; one-hot; gradient descent; stochastic gradient descent;
learning rate; mini-batch; epoch; convex; overfitting; generalization; regularization;
L2 penalty; early stopping; hyperparameter; training set; validation set; test set;
held-out; data leakage; selection bias; accuracy; precision; recall; F1; balanced
accuracy; top-5 accuracy; confusion matrix; variance; standard deviation; quantile;
confidence interval; coverage; calibration; overconfident; reliability diagram;
expected calibration error; temperature scaling; abstaining; out-of-distribution; open
set; distribution shift; k-nearest neighbours; cosine similarity; principal component
analysis; null hypothesis; p-value; McNemar's test; type I error; type II error; power;
multiple comparisons; family-wise error rate; Pareto front"""
AT_LEAST = [" ".join(term.split()) for term in AT_LEAST.split(";")]


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


def terms(notebook: dict) -> list[str]:
    """What it defines: all that is bold, but for labels such as **Try it.**."""
    text = re.sub(r"```.*?```", "", prose(notebook), flags=re.S)
    bold = re.findall(r"\*\*([^*]+)\*\*", " ".join(text.split()))
    return [
        term for term in bold if term[-1] not in ".:?" and term != "What you'll learn"
    ]


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
        assert text and re.fullmatch(r"https://[\w.-]+/\S+|glossary\.md", address)


def test_opens_with_a_question_and_the_figure_that_answers_it(notebook):
    opening = "".join(notebook["cells"][0]["source"])
    assert "?" in opening.partition("<img")[0]
    name, alt = re.search(
        r'<img src="../figures/(\w+)\.png" width="\d+" alt="([^"]+)">', opening
    ).groups()
    assert (FIGURES / f"{name}.png").exists() and len(alt.split()) > 5
    drawn = "".join("".join(cell["source"]) for cell in code_cells(notebook))
    assert re.search(rf'figures\.{name},|"{name}"\)', drawn), "it's met in the lesson"


def test_the_glossary_has_each_term_once_and_names_the_lesson_that_defines_it():
    page = (FOLDER / "glossary.md").read_text("utf-8")
    entries = re.findall(r"^- \*\*([^*]+)\*\*: .+ \(lesson (\d)\)$", page, re.M)
    assert len(entries) == page.count("\n- ") >= 80
    names = [name for name, _ in entries]
    assert names == sorted(names, key=str.casefold) and len(set(names)) == len(names)
    defined = [
        (term, file.name[1])
        for file in NOTEBOOKS
        for term in terms(json.loads(file.read_text("utf-8")))
    ]
    assert sorted((a.casefold(), b) for a, b in defined) == sorted(
        (a.casefold(), b) for a, b in entries
    )


@pytest.mark.parametrize("term", AT_LEAST)
def test_a_term_of_the_field_is_defined(term):
    assert f"- **{term}**: " in (FOLDER / "glossary.md").read_text("utf-8")
