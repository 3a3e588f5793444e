"""What a run works on (photos, module, size, home, seed) and where its files lie.

Arguments come first, then the variables ``DOGTL_PHOTOS``, ``DOGTL_MODULE``,
``DOGTL_SIZE`` and ``DOGTL_HOME``, then the embedded default: the photos of the
kennel and the toy module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger("dogtl")
MAX_SIZE = 4096  # pixels; a mistyped size would fill the memory


class DogtlError(Exception):
    """Something that the user can mend; the message is one sentence that says how."""


@dataclass(frozen=True)
class Choice:
    """What was chosen. `choose` makes one; every step takes one.

    `photos` and `module` hold a known word, a handle or an absolute path; `size`
    is the squares' side in pixels, or None for the module's own.
    """

    photos: str
    module: str
    size: int | None
    home: Path
    seed: int = 0
    strict: bool = False

    @property
    def figures(self) -> Path:
        """Where figures go: ``DOGTL_FIGURES``, else a folder in the home."""
        given = os.environ.get("DOGTL_FIGURES")
        return find_root(Path.cwd()) / given if given else self.folder("figures")

    def folder(self, step: str, size: int | None = None, module: bool = True) -> Path:
        """The folder of a step's files: one for each photos, module and size."""
        parts = [key(self.photos), *([key(self.module)] if module else [])]
        return Path(self.home, step, *parts, *([str(size)] if size else []))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time work in the home; a second one waits."""
        from filelock import FileLock

        self.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self.home / ".lock"):
            yield


def choose(
    photos: str | Path | None = None,
    module: str | Path | None = None,
    size: int | None = None,
    home: str | Path | None = None,
    seed: int = 0,
    strict: bool = False,
) -> Choice:
    """Choose photos, module and the rest, each from its argument, variable or default.

    Relative paths in arguments start at the current folder, those in the variables
    at the root (see `find_root`). Raises DogtlError for a size that is none.
    """
    root = find_root(Path.cwd())
    if size is None:
        size = os.environ.get("DOGTL_SIZE") or None
    if size is not None and not is_size(str(size)):
        raise DogtlError(
            f"the size is {size!r}: give the squares' side with --size (or DOGTL_SIZE),"
            f" from 1 to {MAX_SIZE} pixels"
        )
    return Choice(
        photos=_pick(photos, "DOGTL_PHOTOS", "kennel", root),
        module=_pick(module, "DOGTL_MODULE", "toy", root),
        size=int(size) if size else None,
        home=_home(home, root),
        seed=seed,
        strict=strict,
    )


def find_root(start: Path) -> Path:
    """The checkout that `start` lies in, known by its pyproject.toml, else `start`."""
    for folder in [start, *start.parents]:
        try:
            project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if project.get("project", {}).get("name") == "dogtl":
            return folder
    return start


def is_size(text: str) -> bool:
    """Whether a text is a side of squares in pixels that makes sense."""
    return bool(re.fullmatch("[0-9]{1,4}", text)) and 0 < int(text) <= MAX_SIZE


def is_word(value: str) -> bool:
    """Whether a choice is a known word; whatever holds / or : is a path or a handle."""
    return not any(mark in value for mark in {"/", ":", os.sep})


def key(value: str) -> str:
    """A folder's name for a choice: readable, and another one for each choice."""
    if is_word(value):
        return value
    names = re.split(r"[/\\]+", value.rstrip("/\\"))[-3 if "://" in value else -1 :]
    readable = re.sub(r"[^\w.-]+", "-", "-".join(names))[-60:]
    return f"{readable}-{hashlib.sha256(os.fsencode(value)).hexdigest()[:8]}"


def digest(*facts: object) -> str:
    """A short fingerprint of facts, to tell whether a step's inputs have changed."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: yields where to write, renames at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_arrays(file: Path, fields: dict) -> None:
    """Write arrays, numbers and lists of text as ``.npz``, ``provenance`` as JSON.

    Equal fields give equal bytes, and nothing in the file can run.
    """
    texts = {k: np.array(v, str) for k, v in fields.items() if isinstance(v, list)}
    made_from = json.dumps(fields["provenance"], sort_keys=True)
    with whole(file) as part, open(part, "wb") as out:
        np.savez(out, **{**fields, **texts, "provenance": made_from})


def read_arrays(file: Path, provenance: dict | None = None) -> dict:
    """Read what `write_arrays` wrote; empty if not there or not of `provenance`."""
    try:
        with open(file, "rb") as data, np.load(data, allow_pickle=False) as stored:
            made_from = json.loads(str(stored["provenance"]))
            if provenance not in (None, made_from):
                return {}
            fields = {
                k: v.tolist() if v.dtype.kind == "U" else v for k, v in stored.items()
            }
    except Exception:  # NumPy and zipfile raise a dozen kinds on damaged files
        return {}
    return {**fields, "provenance": made_from}


def progress(items: Iterable, total: int, what: str, done: int = 0) -> Iterable:
    """A bar on standard error; ``TQDM_DISABLE=1`` hides it."""
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, initial=done, dynamic_ncols=True)


def _pick(given: str | Path | None, variable: str, default: str, root: Path) -> str:
    if isinstance(given, Path):
        return str(given.expanduser().absolute())
    if given:
        return _absolute(given, Path.cwd())
    return _absolute(os.environ.get(variable) or default, root)


def _absolute(value: str, start: Path) -> str:
    if is_word(value) or "://" in value:
        return value
    return os.path.normpath(start / Path(value).expanduser())


def _home(given: str | Path | None, root: Path) -> Path:
    if given:
        return Path(given).expanduser().absolute()
    return (root / Path(os.environ.get("DOGTL_HOME") or "data").expanduser()).absolute()
