"""The figures: each drawn from a table or from images that it is given, none computed.

A table is a dict of columns. It is written to CSV beside the figure, and `redraw` draws
the figure again from it: `publish` names figure and file after the function that draws.

One style file changes fonts, sizes, colours and formats for all of them: name yours in
``DOGTL_STYLE``, or append it to `STYLE`. It's laid over ``figures.mplstyle``.
"""

import base64
import csv
import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from html import escape
from inspect import getdoc
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import rcParams, style
from matplotlib.artist import setp
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dogtl.base import DogtlError, plural
from dogtl.store import atomic_write, find_home, to_csv

COLUMN_WIDTH, PAGE_WIDTH = (
    3.4,
    7.0,
)  # inches: the width of a text column and of a page's text
STYLE = [Path(__file__).with_suffix(".mplstyle")]  # of several the last one wins
STYLE += filter(None, [os.environ.get("DOGTL_STYLE")])
FORMATS = ("png", "pdf")  # and the one that a style names: savefig.format
REPRODUCIBLE = {"png": {"Software": None}, "pdf": {"CreationDate": None}}  # same bytes
REPRODUCIBLE["svg"] = {"Date": None}
BLUE = "C1"  # the style's second colour
# columns of texts: a breed may be called 7
TEXT_COLUMNS = ("breed", "prediction", "module", "photo", "square", "method", "change")
FIGURES: dict[str, Callable[..., Figure]] = {}  # what `styled` made, by name


class PageFigure(Figure):
    """A figure that notebooks show with an alternative text: as HTML, since JupyterLab
    gives images none. Lines are sharp on fine screens, and photos small as JPEG."""

    alt, photos = "", False

    def _ipython_display_(self) -> None:
        from IPython.display import display

        buffer, width = io.BytesIO(), round(self.get_figwidth() * self.dpi)
        kind, dpi, options = "png", 2 * self.dpi, {"metadata": REPRODUCIBLE["png"]}
        if self.photos:
            kind, dpi, options = "jpeg", self.dpi, {"pil_kwargs": {"quality": 88}}
        with style.context(STYLE):
            self.savefig(buffer, format=kind, dpi=dpi, **options)
        data = base64.b64encode(buffer.getvalue()).decode()
        source = f"data:image/{kind};base64,{data}"
        html = f'<img width="{width}" alt="{escape(self.alt)}" src="{source}">'
        display({"text/html": html, "text/plain": self.alt}, raw=True)


def styled(pick: Callable = max, *columns: str) -> Callable:
    """Let a function draw in the project's style, and say in words what it drew.

    The words give the `columns` of one row: `pick`, max or min, takes it by the first.
    """

    def decorate(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        @wraps(draw)
        def drawn(*args, **options) -> Figure:
            with style.context(STYLE):
                figure = draw(*args, **options)
                figure.draw_without_rendering()  # settles the layout in this style
            figure.alt = figure.alt or alt_text(draw.__name__, *args, **options)
            return figure

        drawn.tells = pick, columns
        FIGURES[draw.__name__] = drawn
        return drawn

    return decorate


def publish(
    draw: Callable[..., Figure], table: dict, folder: Path | None = None, **more
) -> Figure:
    """Draw a table, save the figure and, as CSV, the table.

    Parameters
    ----------
    draw : callable
        One of this module's functions; the files bear its name.
    table : dict of str to list
        What it draws.
    folder : Path, optional
        See `save`.
    **more
        What else `draw` takes: images.

    Returns
    -------
    Figure
        The figure.
    """
    data = to_csv([table, *zip(*table.values(), strict=True)])
    atomic_write(_folder(folder) / f"{draw.__name__}.csv", data)
    return save(draw(table=table, **more), draw.__name__, folder)


def redraw(file: str | Path, folder: Path | None = None) -> Figure:
    """Draw a figure again from its CSV, in the style of now, and save it.

    Parameters
    ----------
    file : str or Path
        A table as `publish` leaves it, such as ``figures/per_breed.csv``.
    folder : Path, optional
        Where the figure goes; unless given beside the file.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    DogtlError
        If the file isn't the table of a figure; galleries are drawn from images.
    """
    file = Path(file)
    known = [name for name in FIGURES if name != "gallery"]  # which needs images
    if file.stem not in known:
        raise DogtlError(
            f"{file} isn't named for a figure, as one of these: {', '.join(known)}"
        )
    try:
        return publish(FIGURES[file.stem], read_table(file), folder or file.parent)
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DogtlError(
            f"{file} can't be drawn ({why}): take the table that publish wrote"
        ) from error


def read_table(file: Path) -> dict[str, list]:
    """Read a table from its CSV, the numbers as numbers."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        names, *rows = csv.reader(lines)
    columns = [[row[i] for row in rows] for i in range(len(names))]
    return {
        name: column if name in TEXT_COLUMNS else list(map(_number, column))
        for name, column in zip(names, columns, strict=True)
    }


def alt_text(name: str, table: dict, caption: str = "") -> str:
    """Return what a screen reader says of a figure: its caption and its main number."""
    first = getdoc(FIGURES[name]).split("\n")[0].replace("`", "")
    caption = caption or first[0].upper() + first[1:]
    pick, columns = FIGURES[name].tells
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values())]  # noqa: B905
    if "prediction" in table:  # correct ones aren't worth telling
        rows = [row for row in rows if row["breed"] != row["prediction"]]
    if not rows or not columns:
        return caption
    row = pick(rows, key=lambda row: row[columns[0]])
    words = [f"{what.replace('_', ' ')} {_word(row[what])}" for what in columns]
    return f"{caption} {'Highest' if pick is max else 'Lowest'} {', '.join(words)}."


def save(figure: Figure, name: str, folder: Path | None = None) -> Figure:
    """Save a figure as PNG (300 dpi) and PDF, and as what the style's format is.

    The same data gives the same bytes on the same machine: no dates are stored.

    Parameters
    ----------
    figure : Figure
        The figure.
    name : str
        The files' name, without a suffix.
    folder : Path, optional
        Where they go; unless given ``DOGTL_FIGURES``, else ``figures`` in the home.

    Returns
    -------
    Figure
        The figure.
    """
    images = [image for ax in figure.axes for image in ax.images]
    with style.context(STYLE):
        # their own pixels: half the bytes, and true to them
        setp(images, interpolation="none")
        for suffix in dict.fromkeys((*FORMATS, rcParams["savefig.format"])):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=REPRODUCIBLE.get(suffix))
            atomic_write(_folder(folder) / f"{name}.{suffix}", buffer.getvalue())
        setp(images, interpolation="auto")
    return figure


def breed_name(breed: str) -> str:
    """Return a breed's name for people: 001.Afghan_hound becomes Afghan hound."""
    name = re.sub(r"^\d+\.", "", breed).replace("_", " ")
    return name.encode("utf-8", "replace").decode()  # or no font could draw it


def breed_names(breeds: list[str]) -> list[str]:
    """Return names for people; breeds that would share one keep their numbers."""
    short = {breed: breed_name(breed) for breed in breeds}
    shared = [name for name in short.values() if list(short.values()).count(name) > 1]
    full = {breed: breed_name(breed.replace(".", " ", 1)) for breed in breeds}
    return [(full if short[breed] in shared else short)[breed] for breed in breeds]


@styled()
def gallery(
    images: list, captions: list[str], columns: int = 6, rows: list[str] | None = None
) -> Figure:
    """Images (PIL, or arrays), captions below them, and labels left of the ``rows``."""
    n_rows, cell = max(1, -(-len(images) // columns)), PAGE_WIDTH / columns
    what = plural(len(images), "image")
    what += f" in rows ({', '.join(rows)})" if rows else ""
    alt = f"{len(images)} {what}: {'; '.join(captions)}"
    width = int(cell / 0.066)  # characters that fit below an image
    captions = [
        "\n".join(fill(line, width) for line in caption.split("\n"))
        for caption in captions
    ]
    lines = 1 + max((caption.count("\n") for caption in captions), default=0)
    figure, axes = _grid(n_rows, columns, (PAGE_WIDTH, n_rows * (cell + 0.14 * lines)))
    figure.alt, figure.photos = " ".join(alt.split()), True
    setp(axes.flat, xticks=[], yticks=[], frame_on=False)
    for ax, label in zip(axes[:, 0], rows or [], strict=False):
        ax.set_ylabel(label)
    for ax, image, caption in zip(axes.flat, images, captions, strict=False):
        ax.imshow(np.asarray(image), cmap="gray")
        ax.set_xlabel(caption, size=6.5, labelpad=2)
    return figure


def most_confident_errors(images: list, table: dict) -> Figure:
    """Photos with a wrong ``prediction``: the ``breed`` and the ``confidence``."""
    rows = zip(*_named_pairs(table), table["confidence"], strict=True)
    return gallery(images, [f"{breed}\n{p:.0%} {other}" for breed, other, p in rows])


@styled(max, "photos", "low", "high")
def cropped_away(table: dict) -> Figure:
    """How many ``photos`` lose which share of their pixels, ``low`` to ``high``."""
    figure, ax = _axis(
        COLUMN_WIDTH, 2.2, "share of the photo that is cut off", "photos"
    )
    low, high = np.array(table["low"]), np.array(table["high"])
    ax.bar(low, table["photos"], high - low, align="edge", color=BLUE, edgecolor="w")
    ax.set_xlim(low[0], high[np.array(table["photos"]) > 0].max())
    return figure


@styled(max, "value", "feature")
def one_bottleneck(table: dict) -> Figure:
    """The ``value`` of each ``feature`` of one photo."""
    figure, ax = _axis(PAGE_WIDTH, 1.8, "feature", "value")
    ax.vlines(table["feature"], 0, table["value"], color=BLUE, linewidth=0.8)
    ax.set(xmargin=0.01, ylim=(0, None))
    return figure


@styled()
def pca_map(table: dict) -> Figure:
    """Photos at ``x`` and ``y``, a panel for each ``breed``, the first 12 of them."""
    x, y, breed = (np.array(table[name]) for name in ("x", "y", "breed"))
    breeds = list(dict.fromkeys(table["breed"]))[:12]
    rows, columns = -(-len(breeds) // 4), min(4, len(breeds))
    size = (PAGE_WIDTH, 0.5 + 1.4 * rows)
    figure, axes = _grid(rows, columns, size, sharex=True, sharey=True)
    for ax, one, name in zip(axes.flat, breeds, breed_names(breeds), strict=False):
        ax.scatter(x, y, 1, color="0.8")
        ax.scatter(x[breed == one], y[breed == one], 3, color="black")
        ax.set_xlabel(name, size=7, labelpad=2)
    for ax in axes.flat[len(breeds) :]:
        ax.set_axis_off()
    figure.supxlabel("first principal component")
    figure.supylabel("second principal component")
    return figure


@styled(min, "valid_loss", "epoch", "valid_accuracy")
def training_curves(table: dict) -> Figure:
    """Loss and accuracy of train and valid by ``epoch``, with a line at the ``best``.

    The column ``best`` is 1 in the row of the lowest validation loss, else 0.
    """
    figure, axes = _grid(1, 2, (PAGE_WIDTH, 2.4))
    best = table["epoch"][list(table["best"]).index(1)]
    for ax, what in zip(axes.flat, ("loss", "accuracy"), strict=True):
        for split in ("train", "valid"):
            ax.plot(table["epoch"], table[f"{split}_{what}"], label=split)
        ax.axvline(best, color="0.6", linewidth=0.8, linestyle="-", zorder=0)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    loss, accuracy = axes.flat
    loss.set(ylabel="cross-entropy [nats]", ylim=(0, None))
    accuracy.set_ylabel("accuracy")
    _whole_axis(accuracy, table)
    above = {"va": "bottom", "ha": "center", "transform": loss.get_xaxis_transform()}
    loss.text(best, 1, "lowest valid", color="0.4", size=7, **above)
    figure.legend(handles=loss.lines[:2], loc="outside upper center", ncols=2)
    return figure


@styled(max, "valid_accuracy", "l2")
def l2_penalty(table: dict) -> Figure:
    """Accuracy of train and valid against the penalty ``l2``.

    Where the table has ``valid_low`` and ``valid_high``, the interval is drawn too.
    """
    figure, ax = _axis(COLUMN_WIDTH, 2.4, "L2 penalty", "accuracy")
    places = range(len(table["l2"]))  # 0 has no place on a logarithmic axis
    _plot_splits(ax, places, table)
    ax.set_xticks(places, [f"{penalty:g}" for penalty in table["l2"]])
    return figure


@styled(max, "valid_accuracy", "photos")
def learning_curve(table: dict) -> Figure:
    """Accuracy of train and valid against the number of training ``photos``.

    Where the table has ``valid_low`` and ``valid_high``, the interval is drawn too.
    """
    figure, ax = _axis(COLUMN_WIDTH, 2.4, "training photos", "accuracy")
    _plot_splits(ax, table["photos"], table)
    ax.set_xlim(0, None)
    return figure


@styled(max, "photos", "low", "high")
def interval_width(table: dict) -> Figure:
    """The interval, ``low`` to ``high``, of one accuracy by number of ``photos``."""
    figure, ax = _axis(COLUMN_WIDTH, 2.4, "test photos", "accuracy, 95 % interval")
    ax.fill_between(table["photos"], table["low"], table["high"], color="0.85")
    ax.plot(table["photos"], table["accuracy"], color="black")
    ax.set(xscale="log", xmargin=0.02)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return figure


@styled(max, "observed")
def wilson_picture(table: dict) -> Figure:
    """The plausible shares, ``low`` to ``high``, for each ``truth``, and ``observed``.

    Wilson's interval is where the line of what was observed runs inside the band.
    """
    figure, ax = _axis(COLUMN_WIDTH, 2.8, "true share", "observed share")
    truth, low, high = (np.array(table[name]) for name in ("truth", "low", "high"))
    seen = table["observed"][0]
    inside = truth[(low <= seen) & (seen <= high)][[0, -1]]
    ax.fill_between(truth, low, high, color="0.85")
    ax.hlines(seen, truth[0], truth[-1], color="black", linewidth=0.8)
    ax.hlines(seen, *inside, color=BLUE, linewidth=3)
    ax.vlines(inside, 0, seen, color=BLUE, linewidth=0.8, linestyle=":")
    ax.set(xlim=truth[[0, -1]], ylim=truth[[0, -1]])
    return figure


@styled(min, "accuracy", "breed")
def per_breed(table: dict) -> Figure:
    """Accuracy by ``breed`` with its interval (``low`` to ``high``), worst on top."""
    worst = np.argsort(table["accuracy"], kind="stable")[:40][::-1]
    table = {name: np.array(column)[worst] for name, column in table.items()}
    names = zip(breed_names(table["breed"].tolist()), table["photos"], strict=True)
    labels = [f"{name} ({photos})" for name, photos in names]
    figure, ax = _axis(
        PAGE_WIDTH, 0.7 + 0.17 * len(labels), "accuracy, 95 % interval", ""
    )
    _dots(ax, labels, table["accuracy"], table)
    return figure


@styled(max, "photos", "breed", "prediction")
def confusion(table: dict) -> Figure:
    """How many ``photos`` of a ``breed`` (row) got each ``prediction`` (column)."""
    breeds = list(dict.fromkeys(table["breed"]))
    names, n = breed_names(breeds), len(breeds)
    counts = np.array(table["photos"]).reshape(n, n)
    width, height = PAGE_WIDTH if n > 4 else COLUMN_WIDTH, 1.5 + 0.25 * n
    figure, ax = _axis(width, height, "predicted breed", "breed")
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    image = ax.imshow(shares, vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(counts), strict=True):
        look = {"color": "white" if shares[row, column] > 0.5 else "black", "size": 7}
        ax.text(column, row, counts[row, column], ha="center", va="center", **look)
    ax.set_xticks(range(n), names, rotation=45, ha="right")
    ax.set_yticks(range(n), names)
    figure.colorbar(image, label="share of the breed's photos")
    return figure


@styled(max, "photos", "breed", "prediction")
def confused_pairs(table: dict) -> Figure:
    """The most frequent mistakes: ``photos`` of a ``breed``, and the ``prediction``."""
    pairs = zip(*_named_pairs(table), strict=True)
    labels = [f"{breed} as {prediction}" for breed, prediction in pairs]
    more, what = (table.get("left_out") or [0])[-1], "test photos"
    if more:  # ties at the last place, and what's rarer
        few = f"at most {table['photos'][-1]} each"
        what += f" (and {more} more {plural(more, 'pair')}, {few})"
    figure, ax = _bars(labels, table["photos"], what)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


@styled(max, "confidence", "accuracy")
def calibration(table: dict) -> Figure:
    """``accuracy`` against the mean ``confidence`` of the predictions, in bins."""
    figure, ax = _axis(COLUMN_WIDTH, 2.8, "mean confidence", "accuracy, 95 % interval")
    ax.plot([0, 1], [0, 1], color="0.6", linestyle="-", linewidth=0.8)
    ax.vlines(table["confidence"], table["low"], table["high"], color=BLUE)
    ax.plot(table["confidence"], table["accuracy"], "o", color="black", linestyle="")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


@styled(max, "accuracy", "module")
def compare_modules(table: dict) -> Figure:
    """``accuracy`` of each ``module`` (``low`` to ``high``), the most accurate on top.

    Dots are filled where ``pareto`` is 1. Beside each row stand its ``multiply_adds``
    and ``parameters``; a dotted line marks the accuracy of ``chance``.
    """
    order, top = np.argsort(table["accuracy"], kind="stable"), len(table["module"])
    table = {name: np.array(column)[order] for name, column in table.items()}
    figure, ax = _axis(PAGE_WIDTH, 0.9 + 0.22 * top, "accuracy, 95 % interval", "")
    chance = table["chance"][0]
    ax.axvline(chance, color="0.4", linewidth=0.8, linestyle=":")
    _dots(ax, table["module"], table["accuracy"], table, table["pareto"])
    grey = {"size": 7, "color": "0.3", "va": "bottom"}
    ax.text(chance, top - 0.4, "chance", ha="center", **grey)
    costs = (("multiply_adds", 0, 56), ("parameters", 2, 104))  # digits, and points
    look = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    for name, _, x in costs:
        head = f"million\n{name.replace('_', '-')}"
        ax.annotate(head, (1, top - 0.4), (x, 0), ha="right", **look, **grey)
    look |= {"size": 7, "ha": "right", "va": "center_baseline"}
    for name, digits, x in costs:  # 0 stands for a cost that couldn't be counted
        for row, cost in enumerate(table[name]):
            text = f"{cost / 1e6:,.{digits}f}" if cost else "?"
            ax.annotate(text, (1, row), (x, 0), **look)
    return figure


@styled(max, "accuracy", "method", "photos")
def transfer_curve(table: dict) -> Figure:
    """``accuracy`` of each ``method`` by ``photos`` per breed, ``low`` to ``high``.

    Accuracies are means over draws of the training photos, and a band reaches over the
    draws' intervals. A dotted line marks the accuracy of ``chance``.
    """
    x = "training photos per breed"
    y = "test accuracy: mean, and range\nof the draws' 95 % intervals"
    figure, ax = _axis(PAGE_WIDTH, 3.2, x, y)
    table = {name: np.array(column) for name, column in table.items()}
    for i, method in enumerate(dict.fromkeys(table["method"].tolist())):
        rows = {
            name: column[table["method"] == method] for name, column in table.items()
        }
        curve = rows["photos"], rows["accuracy"]
        (line,) = ax.plot(*curve, marker="osD^v"[i % 5], label=method)
        band = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
        ax.fill_between(rows["photos"], rows["low"], rows["high"], **band)
    chance = table["chance"][0]
    ax.axhline(chance, color="0.4", linewidth=0.8, linestyle=":")
    look = {"size": 7, "color": "0.3", "va": "center", "textcoords": "offset points"}
    ax.annotate("chance", (1, chance), (3, 0), ax.get_yaxis_transform(), **look)
    ax.set(xscale="log", ylim=(0, 1))
    ticks = np.unique(table["photos"])
    ax.set_xticks(ticks, [f"{n:.3g}" for n in ticks])
    ax.minorticks_off()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


@styled(max, "share", "change")
def counterfactuals(table: dict) -> Figure:
    """The ``share`` of predictions, ``low`` to ``high``, that each ``change`` moves."""
    order = np.argsort(table["share"], kind="stable")
    table = {name: np.array(column)[order] for name, column in table.items()}
    what = "changed predictions, 95 % interval"
    figure, ax = _axis(COLUMN_WIDTH, 0.7 + 0.22 * len(order), what, "")
    _dots(ax, table["change"], table["share"], table)
    ax.set_xlim(-0.02, 1.02)
    return figure


@styled(max, "probability", "breed")
def predictions(table: dict) -> Figure:
    """The ``probability`` of each ``breed`` for one photo, most probable on top."""
    names = breed_names(list(table["breed"]))
    figure, ax = _bars(names, table["probability"], "probability")
    ax.set_xlim(0, 1.1)
    ax.bar_label(ax.containers[0], fmt="{:.2%}", padding=2, size=7)
    return figure


def _folder(folder: Path | None) -> Path:
    given = folder or os.environ.get("DOGTL_FIGURES")
    return Path(given).absolute() if given else find_home() / "figures"


def _grid(rows: int, columns: int, size: tuple, **options) -> tuple[Figure, np.ndarray]:
    figure = PageFigure(figsize=size)  # not by pyplot: nothing of the reader's changes
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _axis(width: float, height: float, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = _grid(1, 1, (width, height))
    axes[0, 0].set(xlabel=x, ylabel=y)
    return figure, axes[0, 0]


def _dots(ax: Axes, names: list, shares: list, table: dict, filled=None) -> None:
    """Draw a row for each name: its interval, and its share as a dot, maybe open."""
    for row, share in enumerate(shares):
        ax.hlines(row, table["low"][row], table["high"][row], color=BLUE, linewidth=1)
        face = "black" if filled is None or filled[row] else "white"
        ax.plot(share, row, "o", color="black", markerfacecolor=face)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4))
    ax.grid(axis="x", linewidth=0.3)


def _bars(names: list[str], values: list, what: str) -> tuple[Figure, Axes]:
    rows = range(len(names))
    figure, ax = _axis(PAGE_WIDTH, 0.6 + 0.19 * max(1, len(names)), what, "")
    ax.barh(rows, list(values)[::-1], color=BLUE)
    ax.set_yticks(rows, names[::-1])
    return figure, ax


def _plot_splits(ax: Axes, x: list, table: dict) -> None:
    for split, marker in (("train", "o"), ("valid", "s")):
        (line,) = ax.plot(x, table[f"{split}_accuracy"], marker=marker, label=split)
        if f"{split}_low" in table:
            ends = table[f"{split}_low"], table[f"{split}_high"]
            ax.vlines(x, *ends, color=line.get_color(), linewidth=0.8)
    _whole_axis(ax, table)
    ax.figure.legend(loc="outside upper center", ncols=2)


def _whole_axis(ax: Axes, table: dict) -> None:
    """Let accuracies start at 0 or at 0.5: closer would magnify single photos."""
    ends = ("_accuracy", "_low")
    lowest = min(min(table[name]) for name in table if name.endswith(ends))
    ax.set_ylim(0.5 if lowest > 0.5 else 0, 1)
    setp([*ax.lines, *ax.collections], clip_on=False)


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell


def _word(value: object) -> str:
    if isinstance(value, str):
        return breed_name(value)
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.3g}"


def _named_pairs(table: dict) -> tuple[list[str], list[str]]:
    names = breed_names(table["breed"] + table["prediction"])
    return names[: len(table["breed"])], names[len(table["breed"]) :]
