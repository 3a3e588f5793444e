"""How the command line reports an evaluation: as text, as JSON and in figures."""

import os
from pathlib import Path

import dogtl
from dogtl import store
from dogtl.base import plural

# What `draw` can leave in a folder; `dogtl clean` deletes no other file there.
FIGURE_NAMES = (
    "training_curves",
    "per_breed",
    "confused_pairs",
    "confusion",
    "most_confident_errors",
)
MAX_CONFUSION_BREEDS = 20  # a larger matrix is unreadable on a page
FIGURES_CODE = str(Path(__file__).with_name("figures.py"))
FIGURES_STYLE = str(Path(__file__).with_name("figures.mplstyle"))
CODE = store.code_version(FIGURES_CODE, FIGURES_STYLE, "matplotlib")


def summary(
    evaluation: dogtl.Evaluation, squares: dogtl.Squares, module: dogtl.Module
) -> dict:
    """Return what ``dogtl evaluate --json`` prints."""
    return {
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "top5": evaluation.top5,
        "n_photos": len(evaluation.labels),
        "n_breeds": len(evaluation.breeds),
        "n_skipped": sum(map(len, squares.skipped.values())),
        "photos": squares.name,
        "module": module.name,
    }


def lines(evaluation: dogtl.Evaluation) -> list[str]:
    """Return what ``dogtl evaluate`` prints: the confused pairs, then the accuracy."""
    table = dogtl.confused_pairs(evaluation)
    counts, breeds, predictions = table["photos"], table["breed"], table["prediction"]
    text = [
        f"{n:3} of {breed} taken for {prediction}"
        for n, breed, prediction in zip(counts, breeds, predictions, strict=True)
    ]
    n_left_out = table["left_out"][0] if table["left_out"] else 0
    if n_left_out:
        pairs = f"{n_left_out} more {plural(n_left_out, 'pair')}"
        text.append(f"and {pairs}, at most {counts[-1]} each")
    if evaluation.top5 is not None:
        text.append(f"top-5 accuracy {evaluation.top5:.3f}")
    return [*text, str(evaluation)]


def draw(
    squares: dogtl.Squares,
    layer: dogtl.LinearLayer,
    evaluation: dogtl.Evaluation,
    parent: Path,
    name: str,
) -> Path:
    """Draw the figures that don't exist yet; return their folder, in `parent`.

    Its name is `name` and a hash of what the figures show, so old and new never mix.
    """
    errors = dogtl.most_confident_errors(evaluation)
    files = [squares.files["test"][row] for row in errors["row"]]
    paths = [os.path.relpath(path, squares.folder) for path in errors["photo"]]
    errors |= {"photo": paths, "square": [file.name for file in files]}
    tables = {
        "training_curves": dogtl.history_table(layer),
        "per_breed": dogtl.per_breed(evaluation),
    }
    if not evaluation.correct.all():
        tables["confused_pairs"] = dogtl.confused_pairs(evaluation)
        tables["most_confident_errors"] = errors
    if len(evaluation.breeds) <= MAX_CONFUSION_BREEDS:
        tables["confusion"] = dogtl.confusion_table(evaluation)
    style = os.environ.get("DOGTL_STYLE", "")
    if style and not style.replace("-", "_").isidentifier():  # Matplotlib knows names
        style = Path(style).read_text("utf-8")
    folder = parent / f"{name}-{store.fingerprint(CODE, style, tables)[:8]}"
    for figure, table in tables.items():
        outputs = [folder / f"{figure}.{suffix}" for suffix in ("csv", "png", "pdf")]
        if all(file.exists() and file.stat().st_size for file in outputs):
            continue
        options = {}
        if figure == "most_confident_errors":
            options["images"] = [dogtl.read_square(file) for file in files]
        draw_figure = getattr(dogtl.figures, figure)
        dogtl.figures.publish(draw_figure, table, folder, **options)
    store.sweep(folder)
    return folder
