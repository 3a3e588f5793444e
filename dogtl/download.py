"""Fetch an archive and unpack it into a folder: whole or not at all.

With the standard library: pooch, the library that fits best, starts a download that
was cut off from the beginning again, and a gigabyte is too long for that.
"""

import os
import re
import shutil
import tarfile
import time
import zipfile
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from dogtl import store
from dogtl.base import DogtlError, log, progress

TRIES, PAUSE, TIMEOUT = 4, 1.0, 30  # pause and timeout in seconds
MAX_FILES = 100_000
MAX_RATIO, SPARE = 20, 1 << 26  # unpacked: 20 times the archive's bytes, and 64 MiB


class _Interrupted(Exception):
    """A download that stopped, or a server that's busy: worth another try."""


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
                archive = _local_path(source) or _download(source, part / "archive")
                _unpack(archive, part / "unpacked", source).replace(folder)
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DogtlError(
            f"{error.filename or folder} can't be read or written"
            f" ({error.strerror or error}): fix this and run it again"
        ) from error
    return folder


def _local_path(source: str) -> Path | None:
    """Return the path that a source means; None for an address elsewhere."""
    if source.startswith("file:"):
        return Path(url2pathname(urlsplit(source).path))
    return None if "://" in source else Path(source)


def _download(address: str, file: Path) -> Path:
    """Get all of a file; resume after interruptions as long as progress is made."""
    failures = most = 0
    while True:
        try:
            _receive(address, file)
            return file
        except _Interrupted as error:
            failures = 1 if _size(file) > most else failures + 1
            most = max(most, _size(file))
            if failures == TRIES:
                raise DogtlError(
                    f"{address} can't be fetched now ({error}): check the network and"
                    " run the same command again, it continues from there; or run dogtl"
                    " fetch on a connected machine and copy its home here"
                ) from error
        time.sleep(PAUSE * 2 ** (failures - 1))


def _receive(address: str, file: Path) -> None:
    """Ask once for what's missing of a file, and append it."""
    note, have = file.with_suffix(".npz"), _size(file)
    known = store.load_arrays(note)
    if have and have == known.get("length"):
        return
    headers = {}
    if have and known.get("validator"):  # it keeps two versions from being joined
        headers = {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    with _open(address, headers, file) as response:
        is_rest = headers and f"bytes {have}-" in str(response.headers["Content-Range"])
        if response.status != 206:  # all of it: new, changed, or no ranges here
            file.unlink(missing_ok=True)
            known = _describe(response)
            store.save_arrays(note, known)
        elif not is_rest:
            file.unlink(missing_ok=True)
            raise _Interrupted("it sends another part than what was asked for")
        log.warning("fetching %s into %s", address, file.parent)
        _append(response, file, known["length"])
    if _size(file) < known["length"]:
        raise _Interrupted(
            f"it stopped after {_size(file):,} of {known['length']:,} bytes"
        )


def _open(address: str, headers: dict[str, str], file: Path) -> HTTPResponse:
    """Return the answer; raise _Interrupted if it may be better the next time."""
    try:
        return urlopen(Request(address, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        answer = f"answers {error.code} {' '.join(str(error.reason).split())}"
        if error.code == 416:  # the file there is another one now, and shorter
            file.unlink(missing_ok=True)
        elif error.code < 500 and error.code not in (408, 429):
            raise DogtlError(f"{address} {answer}: give another address") from error
        raise _Interrupted(f"it {answer}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise _Interrupted(f"it doesn't respond, {reason}") from error


def _describe(response: HTTPResponse) -> dict:
    """Return what to know of a file to continue it another time."""
    length = response.headers["Content-Length"] or ""
    tag, date = response.headers["ETag"] or "W/", response.headers["Last-Modified"]
    return {
        "length": int(length) if re.fullmatch("[0-9]{1,18}", length) else 0,
        "validator": (date or "") if tag.startswith("W/") else tag,
    }


def _append(response: HTTPResponse, file: Path, length: int) -> None:
    """Write what comes to the end of a file, at once: it's kept, whatever happens."""
    with open(file, "ab") as out, progress(None, length, "bytes") as bar:
        bar.update(out.tell())
        while chunk := _read(response):
            bar.update(out.write(chunk))
            out.flush()


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(1 << 18)
    except (OSError, HTTPException) as error:
        raise _Interrupted(f"it was cut off, {error}") from error


def _unpack(archive: Path, folder: Path, source: str) -> Path:
    """Unpack an archive, every file's checksum checked; return the folder.

    Where one folder inside holds everything, that's the one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        is_zip = zipfile.is_zipfile(archive)
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as opened:
            _check_safe(opened, MAX_RATIO * _size(archive) + SPARE)
            # both keep paths inside the folder, tarfile by its filter
            opened.extraction_filter = tarfile.data_filter
            opened.extractall(folder)
            while not is_zip and opened.fileobj.read(1 << 20):
                pass  # a .tar.gz has its one checksum at its end
    except Exception as error:  # the libraries raise a dozen kinds on broken archives
        if getattr(error, "errno", None):
            raise  # there is no room, or no such archive
        shutil.rmtree(folder.parent)  # so the next run fetches it again
        reason = str(error).split("\n")[0].rstrip(":") or "it ends too early"
        raise DogtlError(
            f"{source} isn't a usable archive ({reason}): fetch it again, or"
            " give another address"
        ) from error
    shown = [place for place in folder.iterdir() if place.name[0] not in "._"]
    return shown[0] if len(shown) == 1 and shown[0].is_dir() else folder


def _check_safe(opened: zipfile.ZipFile | tarfile.TarFile, most: int) -> None:
    """Raise ValueError if an archive holds links, nothing, or far too much."""
    if isinstance(opened, zipfile.ZipFile):
        sizes = [member.file_size for member in opened.infolist()]
    else:
        sizes = [member.size for member in opened]
        odd = [m.name for m in opened if not (m.isreg() or m.isdir())]
        if odd:
            raise ValueError(f"it holds {odd[0]}, which is a link or the like")
    if not sizes:
        raise ValueError("it is empty")
    if sum(sizes) > most or len(sizes) > MAX_FILES:
        raise ValueError("it would unpack to far too much")


def _size(file: Path) -> int:
    return os.path.getsize(file) if file.exists() else 0
