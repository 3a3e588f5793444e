"""The notebooks as files: what is stored in them, and what a reader can rely on.

That they run, and that the outputs of cells tagged for it hold, is nbval's job.
"""

import re
import statistics
from pathlib import Path

import nbformat
import pytest

import dogtl

SIX_LINES = re.findall(r"^ {4}(\w.*)", dogtl.__doc__, re.M)  # the whole project
FOLDER = Path(__file__).parent.parent / "notebooks"
FIGURES = FOLDER.parent / "figures"
NOTEBOOKS = sorted(FOLDER.glob("0*.ipynb"))
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
def notebook(request) -> nbformat.NotebookNode:
    """One stored notebook."""
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode, tag: str = "") -> list:
    """Its cells with code; those with a tag, if given."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if not tag or tag in cell.metadata.get("tags", [])]


def code(notebook: nbformat.NotebookNode) -> str:
    """All its code."""
    return "\n".join(cell.source for cell in code_cells(notebook))


def prose(notebook: nbformat.NotebookNode) -> str:
    """All its prose."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n\n".join(cell.source for cell in cells)


def terms(file: Path) -> list[str]:
    """What a lesson defines: all that is bold, but for labels such as **Try it.**."""
    text = prose(nbformat.read(file, as_version=4))
    text = " ".join(re.sub(r"```.*?```", "", text, flags=re.S).split())
    bold = re.findall(r"\*\*([^*]+)\*\*", text)
    return [
        term for term in bold if term[-1] not in ".:?" and term != "What you'll learn"
    ]


def texts(cell: nbformat.NotebookNode) -> str:
    """All the text that a cell has stored."""
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


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
    first = code_cells(notebook)[0].source
    steps = [line for line in first.splitlines() if line in SIX_LINES]
    assert steps == [line for line in SIX_LINES if line in steps] and len(steps) >= 2
    assert not re.search(r"(from|import) dogtl\.|dogtl\._|end=|NBVAL", code(notebook))


def test_run_top_to_bottom_in_one_fresh_kernel(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert notebook.metadata.kernelspec.name == "python3"


def test_no_error_no_warning_no_path_of_a_machine_and_no_timing_is_stored(notebook):
    unwanted = r"Warning|(^|[\s'\"(])(/|[A-Z]:\\)\w|\d (ms|µs|milliseconds|s a photo)\b"
    for cell in code_cells(notebook):
        assert not re.search(unwanted, texts(cell)), texts(cell)
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", texts(cell)
    assert not any(cell.outputs for cell in code_cells(notebook, "unstored"))


def test_only_what_arithmetic_cannot_move_is_checked_by_nbval(notebook):
    checked = code_cells(notebook, "nbval-check-output")
    assert checked
    moving = r"\d ?%|(accuracy|loss|confidence|probability)\W{1,3}\d|\d\.\d"
    for cell in checked:
        assert cell.outputs, "nbval compares nothing with a cell without output"
        assert not re.search(moving, texts(cell)), texts(cell)


def test_opens_and_closes_as_a_lesson(notebook):
    first = notebook.cells[0].source
    assert first.startswith("# ")
    for part in ("What you'll do", "What you'll learn", "What you'll need", "How long"):
        assert part in first
    for part in ("## Recap", "## Exercises", "Solutions", "## Further reading"):
        assert part in prose(notebook)


def test_code_cells_are_short_and_prose_is_longer_and_stands_between_them(notebook):
    sources = [cell.source.splitlines() for cell in code_cells(notebook)]
    lines = [sum(bool(line.strip()) for line in source) for source in sources]
    assert statistics.median(lines) <= 6 and max(lines) <= 14
    assert len(re.findall(r"\w+", prose(notebook))) >= 5 * sum(lines)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert ("code", "code") not in zip(kinds, kinds[1:], strict=False)


def test_no_code_cell_shows_two_figures(notebook):
    for cell in code_cells(notebook):
        assert sum("data" in output for output in cell.outputs) <= 1


def test_links_between_prose_and_references_are_whole(notebook):
    for text, address in re.findall(r"\[([^\]]*)\]\(([^)]*)\)", prose(notebook)):
        assert text and re.fullmatch(r"https://[\w.-]+/\S+|glossary\.md", address)


def test_opens_with_a_question_and_the_figure_that_answers_it(notebook):
    opening = notebook.cells[0].source
    assert "?" in opening.partition("<img")[0]
    name, alt = re.search(
        r'<img src="../figures/(\w+)\.png" width="\d+" alt="([^"]+)">', opening
    ).groups()
    assert (FIGURES / f"{name}.png").exists() and len(alt.split()) > 5
    drawn = re.search(rf'figures\.{name},|"{name}"\)', code(notebook))
    assert drawn, "it's met in the lesson"


def test_the_glossary_has_each_term_once_and_names_the_lesson_that_defines_it():
    page = (FOLDER / "glossary.md").read_text("utf-8")
    entries = re.findall(r"^- \*\*([^*]+)\*\*: .+ \(lesson (\d)\)$", page, re.M)
    assert len(entries) == page.count("\n- ") >= 80
    names = [name for name, _ in entries]
    assert names == sorted(names, key=str.casefold) and len(set(names)) == len(names)
    assert not set(AT_LEAST) - set(names)
    defined = [(term, file.name[1]) for file in NOTEBOOKS for term in terms(file)]
    assert sorted((a.casefold(), b) for a, b in defined) == sorted(
        (a.casefold(), b) for a, b in entries
    )
