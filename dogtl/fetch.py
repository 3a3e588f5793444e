"""Fetch an archive and unpack it as a folder: whole or not at all.

With the standard library: pooch, the library that fits best, starts a download that
was cut off from the beginning again, and a gigabyte is too long for that.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from dogtl.choices import DogtlError, log, progress, whole

TRIES, PAUSE, TIMEOUT = 4, 1.0, 30  # in vain; seconds to wait at first; of silence
MOST_FILES, MOST_TIMES, SPARE = 100_000, 20, 1 << 26  # 20 times its bytes, and 64 MiB
MANIFEST = ".fetched.json"  # hidden, so that it passes for no photo
LEFTOVERS = (".part", ".archive", ".archive.json", ".archive.json.part")
JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$)")
OUTSIDE = re.compile(r"^([/\\]|[A-Za-z]:)|(^|[/\\])\.\.([/\\]|$)")


class FetchError(DogtlError):
    """Something that cannot be fetched or unpacked."""


class _Cut(Exception):
    """A download that stopped, or a server that is busy: worth another try."""


def local_path(source: str) -> Path | None:
    """The path that a source (an address or a path) means; None if it is elsewhere."""
    if source.startswith("file:"):
        return Path(url2pathname(urlsplit(source).path))
    return None if "://" in source else Path(source)


def fetch_folder(
    source: str,
    folder: Path,
    is_ready: Callable[[], bool],
    lock: AbstractContextManager,
) -> None:
    """Make a folder of the zip or tar archive at a source, unless it is ready.

    What was cut off, even by kill -9, goes on: a download at its last byte, unpacking
    from its beginning. The lock is held meanwhile. Raises FetchError.
    """
    if is_ready() and not any(_beside(folder, end).exists() for end in LEFTOVERS):
        return
    with lock:
        try:
            if not is_ready():  # another process may have made it meanwhile
                _fetch(source, folder)
        except OSError as error:
            raise FetchError(
                f"{error.filename or folder} cannot be read or written"
                f" ({error.strerror or error}): mend that and run it again"
            ) from error
        finally:
            shutil.rmtree(_beside(folder, ".part"), ignore_errors=True)
        _tidy(folder)


def _fetch(source: str, folder: Path) -> None:
    archive = local_path(source)
    if archive is None:
        archive = _beside(folder, ".archive")
        _download(source, archive)
    _unpack(archive, folder, source)


def _tidy(folder: Path) -> None:
    for ending in LEFTOVERS[1:]:
        _beside(folder, ending).unlink(missing_ok=True)


def manifest(folder: Path) -> dict:
    """A folder's `source`, the size of its `archive`, and its `files` with theirs."""
    return _read(folder / MANIFEST)


def is_whole(folder: Path) -> bool:
    """Whether a folder was fetched and still has all its files."""
    files = manifest(folder).get("files", {})
    return bool(files) and all(_size(folder / name) == files[name] for name in files)


def _download(address: str, file: Path) -> None:
    """Get all of a file; after a cut ask for the rest, while that brings anything."""
    failures = best = 0
    while failures < TRIES:
        time.sleep(PAUSE * 2 ** (failures - 1) if failures else 0)
        try:
            return _receive(address, file)
        except _Cut as error:
            failures = 1 if _size(file) > best else failures + 1
            best, reason = max(best, _size(file)), error
    raise FetchError(
        f"{address} cannot be fetched now ({reason}): run the same command again"
        " later, it goes on from there"
    )


def _receive(address: str, file: Path) -> None:
    """Ask once for what is missing of a file, and append it."""
    note = _beside(file, ".json")
    known, have = _read(note), _size(file)
    if known.get("address") != address or have > (known["length"] or 0):
        have = 0
    elif have == known["length"]:
        return
    request = Request(address)
    if have and known["validator"]:  # it keeps two files from being joined to one
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["validator"])
    with _open(request, file) as response:
        if response.status != 206:  # all of it: new, changed, or no ranges here
            have, known = 0, _facts(response, address)
            file.unlink(missing_ok=True)
            _write(note, known)
        elif f" {have}-{known['length'] - 1}/" not in response.headers["Content-Range"]:
            file.unlink()
            raise _Cut("it sends another part than the one asked for")
        _announce(address, file, have, known["length"])
        _append(response, file, known["length"])
    if not known["length"]:
        _write(note, known | {"length": _size(file)})
    elif _size(file) < known["length"]:
        raise _Cut(f"it stopped after {_size(file):,} of {known['length']:,} bytes")


def _open(request: Request, file: Path) -> http.client.HTTPResponse:
    """Raises _Cut if it may go better the next time, else FetchError."""
    try:
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # the file there is another one now, and shorter
            file.unlink(missing_ok=True)
        answer = f"answers {error.code} {' '.join(str(error.reason).split())}"
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Cut(f"it {answer}") from error
        advice = "give another address"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        if _size(file):  # it did answer once
            raise _Cut(f"it gives no answer, {reason}") from error
        answer = f"gives no answer ({reason})"
        advice = "check the network, or run dogtl fetch elsewhere and bring its home"
    raise FetchError(f"{request.full_url} {answer}: {advice}")


def _facts(response: http.client.HTTPResponse, address: str) -> dict:
    """What to know of a file to go on with it another time."""
    tag, length = response.headers.get("ETag", "W/"), response.headers["Content-Length"]
    date = response.headers["Last-Modified"]
    return {
        "address": address,
        "length": int(length) if length else None,
        "validator": date if tag.startswith("W/") else tag,
    }


def _announce(address: str, file: Path, have: int, length: int | None) -> None:
    """Say what comes and where it goes; packed and unpacked it must fit there."""
    size = f"{length / 1e6:,.1f} MB" if length else "of unknown size"
    begun = f", {have / 1e6:,.1f} of them here already" if have else ""
    log.warning("fetching %s (%s%s) into %s", address, size, begun, file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(file.parent, 2 * (length or 0) - have)


def _check_disk(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise FetchError(
            f"{folder} needs {need / 1e6:,.1f} MB, and {free / 1e6:,.1f} are free: make"
            " room or choose another --home"
        )


def _append(response: http.client.HTTPResponse, file: Path, length: int | None) -> None:
    from tqdm import tqdm

    with (
        open(file, "ab", buffering=0) as out,  # what came is kept, whatever happens
        tqdm(total=length, initial=out.tell(), unit="B", unit_scale=True) as bar,
    ):
        for chunk in _chunks(response):
            bar.update(out.write(chunk))


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read1(1 << 18):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"it was cut off, {error}") from error


def _unpack(archive: Path, folder: Path, source: str) -> None:
    """Unpack beside the folder, every file's checksum checked; rename at the end."""
    part = _beside(folder, ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        is_zip = zipfile.is_zipfile(archive)
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as opened:
            opened.extraction_filter = tarfile.data_filter  # no odd owners and modes
            members = _members(opened, archive)
            _check_disk(part, sum(_about(member)[1] for member in members))
            for member in progress(members, len(members), f"unpacking {folder.name}"):
                opened.extract(member, part)
            while not is_zip and opened.fileobj.read(1 << 20):
                pass  # a .tar.gz has its one checksum at its end
    except Exception as error:  # the libraries raise a dozen kinds on broken archives
        if isinstance(error, FetchError) or getattr(error, "errno", None):
            raise  # there is no room, or no such archive
        _tidy(folder)  # the next run fetches it again
        reason = str(error).split("\n")[0].rstrip(":") or "it ends too early"
        raise FetchError(
            f"{source} gives no archive that can be used ({reason}): fetch it again, or"
            " give another address"
        ) from error
    inside = list(part.iterdir())
    top = inside[0] if len(inside) == 1 and inside[0].is_dir() else part
    files = [file for file in top.rglob("*") if file.is_file()]
    sizes = {file.relative_to(top).as_posix(): _size(file) for file in sorted(files)}
    facts = {"source": source, "archive": _size(archive), "files": sizes}
    _write(top / MANIFEST, facts)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(top, folder)


def _members(opened: zipfile.ZipFile | tarfile.TarFile, archive: Path) -> list:
    """The files in an archive; ValueError if one would do harm when it is unpacked."""
    left, members = MOST_TIMES * archive.stat().st_size + SPARE, []
    for member in opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened:
        name, size, is_folder, is_file = _about(member)
        if OUTSIDE.search(name):
            raise ValueError(f"it holds {name}, which would leave its folder")
        if is_folder or JUNK.search(name):
            continue
        if not is_file:
            raise ValueError(f"it holds {name}, which is a link or the like")
        members.append(member)
        left -= size
        if left < 0 or len(members) > MOST_FILES:
            raise ValueError("it would unpack to far too much")
    if not members:
        raise ValueError("it is empty")
    return members


def _about(member: zipfile.ZipInfo | tarfile.TarInfo) -> tuple[str, int, bool, bool]:
    """What tar and zip call by other names: name, size, a folder? a plain file?"""
    if isinstance(member, tarfile.TarInfo):
        return member.name, member.size, member.isdir(), member.isreg()
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the zip is not from Unix
    plain = kind in (0, stat.S_IFREG)
    return member.filename, member.file_size, member.is_dir(), plain


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _read(file: Path) -> dict:
    try:
        facts = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _write(file: Path, facts: dict) -> None:
    with whole(file) as part:
        part.write_text(json.dumps(facts), "utf-8")
