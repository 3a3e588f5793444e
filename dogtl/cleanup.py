"""What ``dogtl clean`` deletes: stored results that nobody needs any more."""

import os
from itertools import product
from pathlib import Path

from dogtl import bottlenecks, linear, report, store
from dogtl.modules import split_fingerprint
from dogtl.photos import Photos
from dogtl.squares import square_files

SHORT, HASH = "[0-9a-f]" * 8, "[0-9a-f]" * 20  # in the names that dogtl gives


def find_unneeded(photos: Photos, home: Path) -> list[Path]:
    """Return the results in a home that can go; all of them can be made again.

    The squares of these photos stay, and what belongs to a trained layer: its module's
    bottlenecks, its copy in ``linear`` and its newest figures. Photos, modules, layers
    and whatever dogtl didn't make stay as well.

    Parameters
    ----------
    photos : Photos
        As `load_photos` returns them.
    home : Path
        The folder for everything generated.

    Returns
    -------
    list of Path
        Files that really lie in the home: none behind a link.
    """
    files = sorted((home / "layers").glob("*.npz"))
    layers = [layer for layer in map(linear.read_layer, files) if layer]
    modules = {layer.module["fingerprint"] for layer in layers}
    squares = _squares_of(photos, modules, home)
    folders = {store.fingerprint(bottlenecks.CODE, module) for module in modules}
    copies = {file.read_bytes() for file in files}
    tables = sorted(home.glob(f"figures/*-{SHORT}/per_breed.csv"), key=os.path.getmtime)
    newest = {table.parent.name[:-9]: table.parent for table in tables}  # by layer
    drawn = [newest.get(file.stem) for file in files]

    found = [f for f in home.glob(f"squares/*/*/*-{HASH}.jpg") if f not in squares]
    found += home.glob(f"squares/*/*/*-{HASH}.txt")  # reasons: older versions'
    shards = home.glob(f"bottlenecks/{HASH}/{HASH}.npz")
    found += [shard for shard in shards if shard.parent.name not in folders]
    stored = home.glob(f"linear/{HASH}.npz")
    found += [layer for layer in stored if layer.read_bytes() not in copies]
    for name, suffix in product(report.DRAWN, ("csv", "png", "pdf", "svg")):
        some = home.glob(f"figures/*-{SHORT}/{name}.{suffix}")
        found += [figure for figure in some if figure.parent not in drawn]
    root = home.resolve()
    return [f for f in found if f.resolve() == root / f.relative_to(home)]


def _squares_of(photos: Photos, modules: set[str], home: Path) -> set[Path]:
    """Return the squares that modules take of photos."""
    squares = set()
    for size in {split_fingerprint(fingerprint)[1] for fingerprint in modules}:
        for split in photos.paths:
            squares.update(square_files(photos, split, size, home).values())
    return squares
