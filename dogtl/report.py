"""What the command line says of an evaluation: a text, JSON and figures."""

import os
from pathlib import Path

import dogtl
from dogtl import store
from dogtl.base import plural
from dogtl.evaluation import Evaluation
from dogtl.linear import LinearLayer
from dogtl.modules import Module
from dogtl.squares import Squares

DRAWN = ("training_curves", "per_breed", "confused_pairs", "confusion")
DRAWN += ("most_confident_errors",)
MAX_CONFUSION_BREEDS = 20  # breeds; a larger matrix can't be read on a page
STYLE = Path(__file__).with_name("figures.mplstyle")
CODE = store.code_version(str(STYLE.with_suffix(".py")), str(STYLE), "matplotlib")


def summary(evaluation: Evaluation, squares: Squares, module: Module) -> dict:
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


def lines(evaluation: Evaluation) -> list[str]:
    """Return what ``dogtl evaluate`` prints: the confused pairs, then the accuracy."""
    pairs = list(zip(*dogtl.confused_pairs(evaluation).values(), strict=True))
    text = [f"{n:3} of {breed} taken for {other}" for breed, other, n, _ in pairs]
    if pairs and pairs[-1][-1]:
        n, more = pairs[-1][-2:]
        text.append(f"and {more} more {plural(more, 'pair')}, at most {n} each")
    if evaluation.top5 is not None:
        text.append(f"top-5 accuracy {evaluation.top5:.3f}")
    return [*text, str(evaluation)]


def draw(
    squares: Squares, layer: LinearLayer, evaluation: Evaluation, folder: Path
) -> Path:
    """Draw the figures that aren't there; return their folder.

    A hash of what they show ends its name, so that old and new never mix.
    """
    errors = dogtl.most_confident_errors(evaluation)
    files = [squares.files["test"][row] for row in errors["row"]]
    errors["photo"] = [os.path.relpath(p, squares.folder) for p in errors["photo"]]
    errors["square"] = [file.name for file in files]
    tables = {
        "training_curves": dogtl.history_table(layer),
        "per_breed": dogtl.per_breed(evaluation),
    }
    if not evaluation.correct.all():  # else there's nothing to draw
        tables["confused_pairs"] = dogtl.confused_pairs(evaluation)
        tables["most_confident_errors"] = errors
    if len(evaluation.breeds) <= MAX_CONFUSION_BREEDS:
        tables["confusion"] = dogtl.confusion_table(evaluation)
    style = os.environ.get("DOGTL_STYLE")
    look = Path(style).read_text("utf-8") if style else ""
    shown = store.fingerprint(CODE, look, tables)
    folder = folder.with_name(f"{folder.name}-{shown[:8]}")
    for name, table in tables.items():
        made = [folder / f"{name}.{suffix}" for suffix in ("csv", "png", "pdf")]
        if all(file.exists() and file.stat().st_size for file in made):
            continue
        more = {}
        if table is errors:
            more["images"] = [dogtl.read_square(file) for file in files]
        dogtl.figures.publish(getattr(dogtl.figures, name), table, folder, **more)
    store.sweep(folder)
    return folder
