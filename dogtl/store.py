"""How results are stored: the home folder, hashes, atomic writes, safe arrays.

The name of a stored result is a hash of everything it was computed from, including the
version of the code. A changed input leads to a new name, so a result is never out of
date. Damaged results are computed again. Two kinds of files differ: a square's name
hashes its photo's path, size and time instead of its content, and the layers that
predict reads are named by the choice of photos and module.
"""

import csv
import glob
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

from dogtl import base
from dogtl.base import DogtlError, is_word, log, slug

CHECKOUT = Path(__file__).parents[1]


def find_home(home: str | Path | None = None) -> Path:
    """Return the folder for everything generated, as an absolute path.

    It defaults to ``DOGTL_HOME``, then to ``data`` in the checkout that holds this
    package. An installed package uses ``data`` in the current folder.
    """
    given = home or os.environ.get("DOGTL_HOME")
    if given:
        path = os.path.expanduser(given)
        if path.startswith("~"):
            raise DogtlError(f"there is no user for {given}: give another home")
        return Path(os.path.abspath(path))
    if (CHECKOUT / "pyproject.toml").exists():
        return CHECKOUT / "data"
    log.info("results go to %s; --home or DOGTL_HOME moves them", Path.cwd() / "data")
    return Path.cwd() / "data"


def choice_name(
    photos: str | Path | None = None,
    module: str | Path | None = None,
    size: int | None = None,
) -> str:
    """Return the file stem for a choice of photos, module and size.

    Paths and handles get a hash, so that two choices never share a stem.
    """
    parts = [
        choice if is_word(choice) else f"{slug(choice)}-{fingerprint(choice)[:8]}"
        for choice in (base.choose_photos(photos), base.choose_module(module))
    ]
    size = base.choose_size(size)
    if size:
        parts.append(f"size-{size}")
    return "-".join(parts)


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
    """Return a file's size, modification time and path as one string.

    It's faster to get than a hash of the content. Paths in the home are relative, so
    that a home can be moved.
    """
    relative_path = str(path).removeprefix(f"{home}{os.sep}")
    try:
        stat = os.stat(path)
    except OSError:  # the file was deleted, or can't be seen
        return f" {relative_path}"
    return f"{stat.st_size} {stat.st_mtime_ns} {relative_path}"


def code_version(*sources: str) -> str:
    """Return a hash of source files (absolute paths) and of packages' versions.

    Steps call this when they're imported, because a source file may be edited later.
    """
    contents = [
        Path(source).read_text("utf-8") if os.path.isabs(source) else version(source)
        for source in sources
    ]
    return fingerprint(contents)


def atomic_write(
    path: Path, data: bytes, modified: float | None = None, sync: bool = True
) -> None:
    """Write a file so that it appears whole or not at all.

    A file that holds the same data already is left alone. `modified` is the
    modification time, in seconds since 1970; it defaults to now. `sync` waits until the
    data are on the disk, which takes some milliseconds. Without it a power cut can
    leave an empty file.
    """
    if _holds(path, data):
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
        # Another process may have written the same file and swept our temporary one.
        if isinstance(error, FileNotFoundError) and _holds(path, data):
            return
        error.filename = str(path)  # the OS gives no file name for a full disk
        raise
    finally:
        with suppress(OSError):  # it was renamed already, or the disk is read-only
            part.unlink()


def _holds(path: Path, data: bytes) -> bool:
    """Return whether a file exists and holds this data."""
    with suppress(OSError):
        # Only regular files are read: reading a pipe would block.
        return path.is_file() and path.read_bytes() == data
    return False


def sync_disks() -> None:
    """Wait until everything is on the disks, so that a power cut empties no file."""
    if hasattr(os, "sync"):
        os.sync()


def temporary_path(path: Path) -> Path:
    """Return a new hidden path beside a file or folder, to write it there first."""
    return path.with_name(f".{_short_name(path)}.{secrets.token_hex(4)}.part")


def temporary_paths_of(path: Path) -> list[Path]:
    """Return all existing temporary paths of a file or folder."""
    return list(path.parent.glob(f".{glob.escape(_short_name(path))}.????????.part"))


def _short_name(path: Path) -> str:
    """Return a name's first 200 bytes: the temporary one mustn't exceed 255."""
    return os.fsdecode(os.fsencode(path.name)[:200])


def _target_of(temporary: Path) -> Path:
    """Return the file or folder that a temporary path was made for."""
    return temporary.with_name(temporary.name[1:].rsplit(".", 2)[0])


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes left below a folder.

    A temporary file is deleted if its target has been written since, or if it's an hour
    old. Steps call this after writing.
    """
    for part in folder.rglob(".*.part"):
        with suppress(OSError):  # another process may be sweeping too
            began, target = part.stat().st_mtime, _target_of(part)
            # A file gets its name at its change time; its own time may be set by hand.
            is_done = target.exists() and target.stat().st_ctime > began
            if is_done or time.time() - began > 3600:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def to_csv(rows: Iterable[Iterable]) -> bytes:
    """Return rows as CSV; file names that aren't UTF-8 keep their bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def save_arrays(path: Path, fields: dict) -> None:
    """Write arrays, numbers and lists of strings as ``.npz``; sweep the folder.

    Equal fields give equal bytes. There's no pickle in the file, so loading it can't
    execute code.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    atomic_write(path, buffer.getvalue())
    sweep(path.parent)


def load_arrays(path: Path) -> dict:
    """Return the fields of an ``.npz`` file; none if it's missing or damaged.

    Lists of strings come back as lists, single numbers and strings as such. Compressed
    files count as damaged: dogtl never writes them, and they could fill the memory.
    """
    try:
        if not path.is_file():  # reading a pipe would block
            return {}
        data = path.read_bytes()
        # The zip's end record states its number of entries. zipfile doesn't compare, so
        # it would return fewer from a damaged file.
        n_entries = int.from_bytes(data[-12:-10], "little")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            sizes = [entry.file_size for entry in stored.zip.infolist()]
            if len(sizes) != n_entries or sum(sizes) >= len(data):
                return {}
            fields = dict(stored)
        # Zero-width items take no bytes, so the sum above misses them.
        if any(value.size > len(data) for value in fields.values()):
            return {}
    except Exception:  # damaged files raise errors of many classes
        return {}
    return {
        name: value.tolist() if value.ndim == 0 or value.dtype.kind == "U" else value
        for name, value in fields.items()
    }
