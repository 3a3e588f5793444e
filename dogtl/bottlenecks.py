"""Step 2, bottlenecks: run each square through the module, and store its features."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dogtl import frameworks, modules, store, toy
from dogtl.base import DogtlError, explain_errors, log, plural, progress
from dogtl.modules import Module
from dogtl.parallel import groups_of, imap
from dogtl.squares import Squares

BATCH = 8  # squares: fits the CPU cache; 1 or 32 take 1.4 times as long
READERS = 4  # threads, enough since reading is fast compared with the network
READ_AHEAD = 256  # limits how many items wait in memory for the network
SHARD = 256  # squares per stored file: the most that a killed run loses
MAX_FEATURE = 1e15  # the sum of thousands of squared features still fits float32
CODE = store.code_version(
    __file__, frameworks.__file__, modules.__file__, "tensorflow", "pillow"
)


@dataclass(frozen=True, eq=False, repr=False)
class Bottlenecks:
    """The bottlenecks of one split: the feature vectors of its photos.

    Attributes
    ----------
    features : ndarray, float32 [photos, features]
        One row per photo.
    labels : ndarray, int64 [photos]
        Each photo's breed, as an index into `breeds`.
    breeds : list of str
        The classes, sorted.
    paths : list of Path
        The photos, in the rows' order.
    skipped : dict of Path to str
        The split's photos that can't be used, with the reason.
    module : dict of str to str
        The ``name`` and the ``fingerprint`` of the module that computed them.
    """

    features: np.ndarray
    labels: np.ndarray
    breeds: list[str]
    paths: list[Path]
    skipped: dict[Path, str]
    module: dict[str, str]

    def __repr__(self) -> str:
        n, width = self.features.shape
        bottlenecks = plural(n, "bottleneck")
        return f"{n} {bottlenecks} of {width} features, {len(self.breeds)} breeds"


class PendingSquare(NamedTuple):
    """A square whose bottleneck isn't stored yet."""

    hash: str
    file: Path
    photo: Path


def extract(
    squares: Squares, module: Module, home: Path | None = None, client=None
) -> dict[str, Bottlenecks]:
    """Return the bottlenecks of each split; those that aren't stored yet are computed.

    Results are stored every 256 squares; an extraction that was stopped resumes from
    there. If two splits or two breeds share photos, a warning says so.

    Parameters
    ----------
    squares : Squares
        As `square` returns them, of the module's size.
    module : Module
        As `load_module` returns it.
    home : Path, optional
        The folder for everything generated; defaults to ``DOGTL_HOME``, then ``data``.
    client : distributed.Client, optional
        A Dask cluster to use. The home must be on storage that all workers share.

    Returns
    -------
    dict of str to Bottlenecks
        For ``train``, ``valid`` and ``test``.

    Raises
    ------
    DogtlError
        If the module can't take these squares, or returns numbers that are infinite,
        NaN or beyond 1e15.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> dogtl.extract(squares, module)["test"]
    240 bottlenecks of 256 features, 12 breeds
    """
    if squares.size != module.size:
        takes = f"takes squares of {module.size} pixels, not of {squares.size}"
        advice = "make them with dogtl.square(photos, module.size)"
        raise DogtlError(f"the module {module.name} {takes}: {advice}")
    if mismatch := find_mismatch(squares, module):
        log.warning("%s", mismatch)
    home = store.find_home(home)
    folder = home / "bottlenecks" / store.fingerprint(CODE, module.fingerprint)
    compute = partial(_compute_shard, module, folder)
    known = {}
    for file in sorted(folder.glob("*.npz")):
        known |= _load_shard(file, module.n_features)
    bottlenecks, hashes = {}, {}
    for split, paths in squares.paths.items():
        files = squares.files[split]
        hashes[split] = list(imap(store.fingerprint_file, files, client, home))
        rows = map(PendingSquare, hashes[split], files, paths)
        shards = _missing_shards(rows, known)
        if shards:
            computed = imap(compute, shards, client, home, module)
            # Each iteration computes and stores one shard.
            for file in progress(computed, len(shards), f"{split} bottlenecks"):
                known |= _load_shard(file, module.n_features)
        else:
            log.info("%s bottlenecks: nothing to do", split)
        bottlenecks[split] = Bottlenecks(
            features=np.stack([known[key] for key in hashes[split]]),
            labels=squares.labels[split],
            breeds=squares.breeds,
            paths=paths,
            skipped=squares.skipped[split],
            module={"name": module.name, "fingerprint": module.fingerprint},
        )
    for text in find_leaks(bottlenecks, hashes):
        log.warning("%s", text)
    return bottlenecks


def find_leaks(
    bottlenecks: dict[str, Bottlenecks], hashes: dict[str, list[str]]
) -> Iterator[str]:
    """Yield a warning for each pair of splits that share photos, and one for breeds.

    Photos are equal if their squares' hashes, given by split, are.
    """

    def describe(paths: list[Path]) -> str:
        return f"{len(paths)} {plural(len(paths), 'photo')}, such as {paths[0]}"

    for one, other in combinations(bottlenecks, 2):
        in_one = set(hashes[one])
        rows = zip(hashes[other], bottlenecks[other].paths, strict=True)
        shared = [path for key, path in rows if key in in_one]
        if shared:
            text = f"{other} shares {describe(shared)}, with {one}"
            yield f"{text}: that flatters the accuracy"
    label_of, mixed = {}, {}
    for split, part in bottlenecks.items():
        rows = zip(hashes[split], part.paths, part.labels, strict=True)
        for key, path, label in rows:
            if label_of.setdefault(key, label) != label:
                mixed[key] = path
    if mixed:
        text = f"breeds share {describe(list(mixed.values()))}"
        yield f"{text}: only one of its labels can be correct"


def near_duplicates(bottlenecks: dict[str, Bottlenecks]) -> dict[str, list]:
    """Return the test photos that may be copies of training photos, nearest first.

    A photo that was resized or saved again has other bytes, but nearly the same
    bottleneck. So a test photo is suspected if it's nearer to a training photo than any
    photo of valid is. Look at the pairs: suspicion isn't proof.

    Parameters
    ----------
    bottlenecks : dict of str to Bottlenecks
        As `extract` returns them.

    Returns
    -------
    dict of str to list
        ``photo`` and ``twin``, its nearest training photo, as paths; ``distance``, the
        Euclidean one between their bottlenecks.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> len(dogtl.near_duplicates(dogtl.extract(squares, module))["photo"])
    2
    """
    from scipy.spatial.distance import cdist

    train, test = bottlenecks["train"], bottlenecks["test"]
    of_valid = cdist(bottlenecks["valid"].features, train.features)
    of_test = cdist(test.features, train.features)
    different = of_valid[of_valid > 0]  # equal photos are reported by extract
    limit = different.min() if len(different) else 0.0
    nearest = of_test.min(axis=1)
    rows = np.argsort(nearest, kind="stable")[: np.count_nonzero(nearest < limit)]
    return {
        "photo": [test.paths[row] for row in rows],
        "twin": [train.paths[twin] for twin in of_test[rows].argmin(axis=1)],
        "distance": nearest[rows].tolist(),
    }


def extract_features(files: list[Path], module: Module) -> Iterator[np.ndarray]:
    """Yield the bottlenecks of squares, in batches of up to 8.

    Other threads read the next squares while the module works on a batch.

    Parameters
    ----------
    files : list of Path
        JPEGs of the module's size.
    module : Module
        As `load_module` returns it.

    Yields
    ------
    ndarray, float32 [batch, features]
        The next rows.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> batches = dogtl.extract_features(squares.files["test"][:20], module)
    >>> [batch.shape for batch in batches]
    [(8, 256), (8, 256), (4, 256)]
    """
    for batch in read_in_batches(read_square, files):
        yield module(to_input(batch))


def read_in_batches(read: Callable, items: Iterable) -> Iterator[list]:
    """Yield what `read` returns for each item, in order, in lists of up to 8.

    Other threads read the next items while the caller works on a list.
    """
    items = iter(items)
    with ThreadPool(READERS) as pool:
        while group := list(islice(items, READ_AHEAD)):
            results = pool.imap(read, group)  # reads the whole group ahead
            while batch := list(islice(results, BATCH)):
                yield batch


def to_input(squares: list[np.ndarray]) -> np.ndarray:
    """Return squares as modules take them: float32 from 0 to 1, stacked.

    It's used in training and in prediction, which must agree.
    """
    return np.stack(squares).astype(np.float32) / 255


def read_square(source: Path | BinaryIO) -> np.ndarray:
    """Return the pixels of a square.

    Parameters
    ----------
    source : Path or file
        One of the `files` of `Squares`, or an open file.

    Returns
    -------
    ndarray, uint8 [size, size, 3]
        Red, green and blue.

    Raises
    ------
    DogtlError
        If the file is missing or damaged.

    Examples
    --------
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), 112)
    >>> dogtl.read_square(squares.files["test"][0]).shape
    (112, 112, 3)
    """
    from PIL import Image

    problem = f"the square {source} can't be read"
    with (
        explain_errors(problem, "delete it, and run this again"),
        Image.open(source, formats=["JPEG"]) as image,
    ):
        return np.asarray(image.convert("RGB"))


def check_finite(features: np.ndarray, paths: list[Path], module: str) -> None:
    """Raise DogtlError if a feature is infinite, NaN or too large for float32 sums."""
    ok = (np.abs(features) <= MAX_FEATURE).all(axis=1)  # comparisons with NaN are False
    bad = np.flatnonzero(~ok)
    if len(bad):
        photo = paths[bad[0]] if len(paths) == len(features) else f"row {bad[0]}"
        values = f"numbers that are infinite, NaN or beyond 1e15 (module {module})"
        advice = "choose another module, or leave that photo out"
        raise DogtlError(f"the bottleneck of {photo} holds {values}: {advice}")


def find_mismatch(squares: Squares, module: Module) -> str:
    """Return a warning if module and photos don't match, else an empty string.

    The toy modules know the kennel's drawings only, and all others know real photos.
    """
    is_drawn = toy.KENNEL in next(iter(squares.paths.values()))[0].parts
    is_toy = module.name.startswith("toy")
    if is_toy and not is_drawn:
        knows, advice = "drawings only", "use --module mobilenet_v2, or a folder"
    elif is_drawn and not is_toy:
        knows, advice = "photos, and the kennel is drawn", "use --module toy"
    else:
        return ""
    return f"the module {module.label} knows {knows}: {advice}"


def _load_shard(file: Path, n_features: int) -> dict[str, np.ndarray]:
    """Return a shard's bottlenecks by their squares' hashes; none if it's damaged."""
    shard = store.load_arrays(file)
    hashes, features = shard.get("hashes"), np.asarray(shard.get("features"))
    shape = (len(hashes), n_features) if isinstance(hashes, list) else None
    if features.shape != shape or features.dtype != np.float32:
        return {}
    return dict(zip(hashes, features, strict=True))


def _missing_shards(
    squares: Iterable[PendingSquare], known: dict[str, np.ndarray]
) -> list[list[PendingSquare]]:
    """Return the squares whose bottlenecks aren't known, each once, in shards."""
    missing = {square.hash: square for square in squares if square.hash not in known}
    return groups_of(list(missing.values()), SHARD)


def _compute_shard(module: Module, folder: Path, squares: list[PendingSquare]) -> Path:
    """Compute and store the bottlenecks of some squares; return their file."""
    hashes = [square.hash for square in squares]
    files = [square.file for square in squares]
    features = np.concatenate(list(extract_features(files, module)))
    check_finite(features, [square.photo for square in squares], module.name)
    file = folder / f"{store.fingerprint(hashes)}.npz"
    store.save_arrays(file, {"hashes": hashes, "features": features})
    return file
