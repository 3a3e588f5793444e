"""The figures: each drawn from a table or from images that it is given, none computed.

A table is a dict of columns, as it is written to CSV beside the figure, so that a
figure can be drawn again from its file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dogtl.choices import whole

COLUMN, PAGE = 3.4, 7.0  # inches: the width of a text column and of a page's text
STYLE = Path(__file__).with_suffix(".mplstyle")
NO_DATE = {"png": {"Software": None}, "pdf": {"CreationDate": None}}  # same bytes


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function draw in the project's style; its figure is not left open."""

    @wraps(draw)
    def drawn(*args, **options) -> Figure:
        with plt.style.context(STYLE):
            figure = draw(*args, **options)
            plt.close(figure)
        return figure

    return drawn


def save(figure: Figure, name: str, folder: Path, table: dict | None = None) -> Figure:
    """Save a figure as PNG (300 dpi) and PDF, and its table as CSV; gives it back.

    The same data gives the same bytes on the same machine: no dates are stored.
    """
    with plt.style.context(STYLE):
        for suffix, metadata in NO_DATE.items():
            with whole(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, format=suffix, metadata=metadata)
    if table is not None:
        with (
            whole(folder / f"{name}.csv") as part,
            open(part, "w", encoding="utf-8", newline="") as out,
        ):
            rows = csv.writer(out, lineterminator="\n")
            rows.writerow(table)
            rows.writerows(zip(*table.values(), strict=True))
    return figure


def breed_name(breed: str) -> str:
    """A breed's name for people: 001.Afghan_hound becomes Afghan hound."""
    return re.sub(r"^\d+\.", "", breed).replace("_", " ")


@styled
def learning_curves(table: dict) -> Figure:
    """Loss and accuracy of train and valid by ``epoch``; ``kept`` marks the best."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.4))
    kept = table["epoch"][list(table["kept"]).index(1)]
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "valid"):
            axis.plot(table["epoch"], table[f"{split}_{what}"], label=split)
        axis.axvline(kept, color="0.6", linewidth=0.8, zorder=0)
        axis.set_xlabel("epoch")
    axes[0].set(ylabel="cross-entropy [nats]", ylim=(0, None))
    axes[1].set(ylabel="accuracy", ylim=(None, 1.01))
    axes[0].text(kept, axes[0].get_ylim()[1], " kept", va="top", color="0.4", size=7)
    axes[0].legend(loc="center right")
    return figure


@styled
def confusion(table: dict) -> Figure:
    """How many ``photos`` of each ``breed`` (row) got each ``guess`` (column)."""
    breeds = list(dict.fromkeys(table["breed"]))
    counts = np.zeros((len(breeds), len(breeds)), dtype=int)
    for breed, guess, photos in zip(*table.values(), strict=True):
        counts[breeds.index(breed), breeds.index(guess)] = photos
    side = min(PAGE, 2.2 + 0.32 * len(breeds))
    figure, axis = plt.subplots(figsize=(side, side - 0.4))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    image = axis.imshow(shares, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, count, ha="center", va="center", color=shade, size=7)
    names = [breed_name(breed) for breed in breeds]
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="guessed breed", ylabel="breed")
    figure.colorbar(image, shrink=0.7, label="share of the breed's photos")
    return figure


@styled
def confused_pairs(table: dict) -> Figure:
    """The most frequent mistakes: ``photos`` of a ``breed`` guessed as ``guess``."""
    pairs = zip(table["breed"], table["guess"], strict=True)
    names = [f"{breed_name(breed)} as {breed_name(guess)}" for breed, guess in pairs]
    figure, axis = plt.subplots(figsize=(PAGE, 0.6 + 0.19 * max(1, len(names))))
    axis.barh(names[::-1], list(table["photos"])[::-1], color="C1")
    axis.set_xlabel("test photos")
    axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


@styled
def per_breed(table: dict) -> Figure:
    """Accuracy by ``breed`` with its interval (``low`` to ``high``), worst on top."""
    order = np.argsort(table["accuracy"], kind="stable")[:40][::-1]
    breed, n, share, low, high = (
        np.array(table[name])[order]
        for name in ("breed", "photos", "accuracy", "low", "high")
    )
    names = [f"{breed_name(b)} ({k})" for b, k in zip(breed, n, strict=True)]
    figure, axis = plt.subplots(figsize=(PAGE, 0.7 + 0.17 * len(names)))
    spread = [(share - low).clip(0), (high - share).clip(0)]
    axis.errorbar(share, names, xerr=spread, fmt="o", color="C1", elinewidth=0.8)
    axis.set(
        xlabel="accuracy (95 % interval)", xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4)
    )
    axis.grid(axis="x", linewidth=0.3)
    return figure


@styled
def gallery(images: list, captions: list[str], columns: int = 6) -> Figure:
    """Images in rows, each with its caption below it."""
    rows = max(1, -(-len(images) // columns))
    cell = PAGE / columns
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    size = (PAGE, rows * (cell + 0.14 * lines))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(image, interpolation="none")
        axis.text(
            *(0.5, -0.04, caption),
            transform=axis.transAxes,
            size=6,
            ha="center",
            va="top",
        )
    return figure


def mistakes(images: list, table: dict) -> Figure:
    """Photos taken for another breed: the ``breed``, the ``guess`` and how sure."""
    rows = zip(table["breed"], table["guess"], table["probability"], strict=True)
    captions = [
        f"{breed_name(breed)}\n{share:.0%} {breed_name(guess)}"
        for breed, guess, share in rows
    ]
    return gallery(images, captions)
