"""Fetch an archive and unpack it into a folder: whole or not at all.

With the standard library: pooch, the library that fits best, can't resume a download,
and a gigabyte takes too long to begin again.
"""

import os
import shutil
import tarfile
import time
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from dogtl import store
from dogtl.base import DogtlError, error_text, log, progress

TRIES, PAUSE, TIMEOUT = 4, 1.0, 30  # pause and timeout in seconds
MAX_FILES, MAX_RATIO, SIZE_ALLOWANCE = (
    100_000,
    20,
    1 << 26,
)  # ratio of bytes, and 64 MiB more


def fetch_folder(source: str, folder: Path) -> Path:
    """Make a folder from a zip or tar archive, unless it's there.

    A download that was cut off, even by ``kill -9``, continues at its last byte. Two
    processes take turns.

    Parameters
    ----------
    source : str
        An address or a path.
    folder : Path
        The folder to make. Until it's whole, everything lies in ``folder.part``.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    DogtlError
        If the archive can't be fetched or unpacked.
    """
    part = folder.with_name(f"{folder.name}.part")
    if folder.is_dir() and not part.exists():
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if not folder.is_dir():  # another process may have made it meanwhile
                part.mkdir(exist_ok=True)
                archive = _download(source, part) if "://" in source else Path(source)
                unpacked = _unpack(archive, part / "unpacked", source)
                if hasattr(os, "sync"):  # or a power cut could leave empty files
                    os.sync()
                unpacked.replace(folder)
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DogtlError(
            f"{error.filename or folder}: {error_text(error)}; fix this and run it again"
        ) from error
    return folder


def _download(address: str, folder: Path) -> Path:
    """Get all of an archive; try again as long as this makes progress."""
    archive, note = folder / "archive", folder / "archive.npz"
    failures = most = 0
    with open(archive, "ab") as out:
        while failures < TRIES:
            time.sleep(PAUSE * failures)
            try:
                _receive(address, out, note)
                return archive
            except HTTPError as error:
                error.close()
                reason = f"it answers {error.code} {error_text(error)}"
                if error.code == 416:  # the file there is another one now, and shorter
                    note.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    break
            except (OSError, HTTPException, ValueError) as error:
                reason = error_text(error)
            failures = 1 if out.tell() > most else failures + 1
            most = max(most, out.tell())
    raise DogtlError(
        f"{address} can't be fetched ({reason}): check that it's right and responds and"
        " that the disk has room, then run this again, which continues from there; or"
        " run dogtl fetch on a connected machine and copy its home here"
    )


def _receive(address: str, out: BinaryIO, note: Path) -> None:
    """Ask once for what an archive lacks, and append it."""
    known, have, headers = store.load_arrays(note), out.tell(), {}
    if have and have == known.get("length"):
        return
    if have and known.get("validator"):  # it keeps two versions from being joined
        headers = {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    with urlopen(Request(address, headers=headers), timeout=TIMEOUT) as answer:
        get = answer.headers.get
        if answer.status != 206:  # all of it: new, changed, or no ranges here
            out.seek(0)
            out.truncate()
            length, tag = get("Content-Length", ""), get("ETag", "")
            known = {"length": int(length) if length.isdecimal() else 0}
            known["validator"] = tag if tag[:1] == '"' else get("Last-Modified", "")
            store.save_arrays(note, known)
        elif not headers or f"bytes {have}-" not in get("Content-Range", ""):
            note.unlink(missing_ok=True)  # so the next try asks for all of it
            raise ConnectionError("it sends another part than what was asked for")
        log.warning("fetching %s into %s", address, note.parent)
        with progress(None, known["length"], "bytes") as bar:
            bar.update(out.tell())
            while chunk := answer.read1(1 << 18):
                bar.update(out.write(chunk))
                out.flush()  # now it's kept, whatever happens
    if out.tell() < known["length"]:
        raise ConnectionError(f"only {out.tell():,} of {known['length']:,} bytes came")


def _unpack(archive: Path, folder: Path, source: str) -> Path:
    """Unpack an archive, every file's checksum checked; return the folder.

    Where one folder inside holds everything, that's the one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    is_zip = zipfile.is_zipfile(archive)
    try:
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as opened:
            members = opened.infolist() if is_zip else opened.getmembers()
            opened.extraction_filter = tarfile.data_filter  # zipfile has its own
            if not (is_zip or all(m.isreg() or m.isdir() for m in members)):
                raise ValueError("it holds a link or the like")
            size = sum(m.file_size if is_zip else m.size for m in members)
            most = MAX_RATIO * archive.stat().st_size + SIZE_ALLOWANCE
            if not 0 < len(members) <= MAX_FILES or size > most:
                raise ValueError("it holds nothing, or far too much")
            opened.extractall(folder)
            while not is_zip and opened.fileobj.read(1 << 20):
                pass  # a .tar.gz has its one checksum at its end
    except Exception as error:  # the libraries raise a dozen kinds on broken archives
        if getattr(error, "errno", None):
            raise  # there is no room, or no such archive
        shutil.rmtree(folder.parent)  # so the next run fetches it again
        raise DogtlError(
            f"{source} isn't a usable archive ({error_text(error)}): fetch it again"
        ) from error
    shown = [place for place in folder.iterdir() if place.name[0] not in "._"]
    return shown[0] if len(shown) == 1 and shown[0].is_dir() else folder
