"""How results are stored: the home folder, hashes, whole files, safe arrays.

A stored result is named by a hash of everything it was computed from, the version of
the code included. If it's there, it's right, whoever made it; if anything differs, it
has another name. So no step compares, repairs or locks what is stored.
"""

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dogtl.base import DogtlError, choose, is_word, log, slug

CHECKOUT = Path(__file__).parents[1]


def find_home(home: str | Path | None = None) -> Path:
    """Return the folder for everything generated, as an absolute path.

    It is the argument, else ``DOGTL_HOME``, else ``data`` in the checkout that this
    package lies in. An installed package uses ``data`` in the current folder.
    """
    given = home or os.environ.get("DOGTL_HOME")
    if given:
        place = os.path.expanduser(given)
        if place.startswith("~"):
            raise DogtlError(f"there is no user for {given}: give another home")
        return Path(os.path.abspath(place))
    if (CHECKOUT / "pyproject.toml").exists():
        return CHECKOUT / "data"
    log.info("results go to %s; --home or DOGTL_HOME moves them", Path.cwd() / "data")
    return Path.cwd() / "data"


def choice_name(
    photos: str | Path | None = None,
    module: str | Path | None = None,
    size: int | None = None,
) -> str:
    """Return what names the files of a choice; two choices never share one."""
    photos = choose(photos, "DOGTL_PHOTOS", "kennel")
    module = choose(module, "DOGTL_MODULE", "toy")
    size = size or os.environ.get("DOGTL_SIZE")
    parts = [
        choice if is_word(choice) else f"{slug(choice)}-{fingerprint(choice)[:8]}"
        for choice in (photos, module)
    ]
    return "-".join([*parts, f"size-{size}"] if size else parts)


def fingerprint(*parts: object) -> str:
    """Return a hash of arrays, texts, numbers and lists of these, as 20 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        else:
            text = json.dumps(part)
            digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()[:20]


def fingerprint_file(path: Path) -> str:
    """Return a hash of a file's content, as 20 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


def file_signature(path: Path, home: Path) -> str:
    """Return a file's size, time and path, as one text, which is fast to hash.

    Of files in the home it's the path there, so that a home can be carried elsewhere.
    """
    place = str(path).removeprefix(f"{home}{os.sep}")
    try:
        facts = os.stat(path)
        return f"{facts.st_size} {facts.st_mtime_ns} {place}"
    except OSError:  # it's gone
        return f" {place}"


def code_version(*sources: str) -> str:
    """Return a hash of source files (absolute paths) and of packages' versions.

    A step calls this when it's imported, so that a file edited later doesn't pass for
    the code that runs.
    """
    contents = [
        Path(source).read_text("utf-8") if os.path.isabs(source) else version(source)
        for source in sources
    ]
    return fingerprint(contents)


def atomic_write(
    path: Path, data: bytes, modified: float | None = None, sync: bool = True
) -> None:
    """Write a file so that it appears whole or not at all; one that has `data` stays.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it's missing.
    data : bytes
        What the file will hold.
    modified : float, optional
        The file's time, in seconds since 1970; now unless given.
    sync : bool, optional
        Whether the data must be on the disk before the file has its name, or a power
        cut could leave it empty. This takes some milliseconds.
    """
    with suppress(OSError):
        if path.is_file() and path.read_bytes() == data:  # a pipe would wait forever
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if modified is not None:
            os.utime(part, (modified, modified))
        os.replace(part, path)
    except OSError as error:
        error.filename = str(path)  # a full disk names none
        if not (isinstance(error, FileNotFoundError) and path.exists()):
            raise  # else another process was faster, and swept
    finally:
        with suppress(OSError):  # it has its name, or the disk is read-only
            part.unlink()


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside a file or folder, of the caller's own."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes left below a folder.

    These are the ones whose file was written since, and any that are an hour old.
    Steps call this when they have written something.
    """
    for part in folder.rglob(".*.part"):
        with suppress(OSError):  # another process may be as fast
            target = part.with_name(part.name[1:].rsplit(".", 2)[0])
            if target.exists() or time.time() - part.stat().st_mtime > 3600:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def to_csv(rows: Iterable[Iterable]) -> bytes:
    """Return rows as CSV; names that aren't UTF-8 keep their bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def save_arrays(path: Path, fields: dict) -> None:
    """Write arrays, numbers and lists of text as ``.npz``.

    Equal fields give equal bytes, and nothing in the file can run. What killed
    processes left beside it is swept.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    atomic_write(path, buffer.getvalue())
    sweep(path.parent)


def load_arrays(path: Path) -> dict:
    """Return the fields of an ``.npz``; none if it's missing or damaged.

    Lists of text come back as lists, single numbers and texts as such. A compressed
    file is none of dogtl's: it could unpack to more than the memory holds.
    """
    try:
        if not path.is_file():  # a pipe would wait forever
            return {}
        data = path.read_bytes()
        n_parts = int.from_bytes(data[-12:-10], "little")  # zipfile doesn't count them
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            sizes = [part.file_size for part in stored.zip.infolist()]
            if len(sizes) != n_parts or sum(sizes) >= len(data):
                return {}
            fields = dict(stored)
        if any(value.size > len(data) for value in fields.values()):  # of no bytes each
            return {}
    except Exception:  # NumPy and zipfile raise a dozen kinds on damaged files
        return {}
    return {
        name: value.tolist() if value.ndim == 0 or value.dtype.kind == "U" else value
        for name, value in fields.items()
    }
