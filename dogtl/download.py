"""Fetch an archive and unpack it into a folder: whole or not at all.

This uses the standard library, because pooch, the library that fits best, can't resume
a download, and a gigabyte takes too long to start again.
"""

import json
import os
import shutil
import tarfile
import time
import zipfile
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from dogtl import store
from dogtl.base import DogtlError, error_text, log, progress

TRIES = 4  # without progress in between
PAUSE = 1.0  # seconds, for each failure so far
TIMEOUT = 30  # seconds
MAX_FILES = 100_000
MAX_RATIO = 20  # unpacked bytes per byte of the archive
SIZE_ALLOWANCE = 1 << 26  # 64 MiB more, because small archives may compress better


def fetch_folder(source: str, folder: Path) -> Path:
    """Make a folder from a zip or tar archive, unless it exists; return it.

    The source is an address or a path. An interrupted download, even by ``kill -9``,
    continues at its last byte. Until the folder is complete, everything is in
    ``folder.part``. Two processes take turns. Raises DogtlError if the archive can't be
    fetched or unpacked.
    """
    part = folder.with_name(f"{folder.name}.part")
    if folder.is_dir() and not part.exists():
        return folder
    from filelock import FileLock

    if "://" not in source and os.path.exists(source) and not os.path.isfile(source):
        raise DogtlError(f"{source} isn't an archive: give a zip or tar file")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if not folder.is_dir():  # another process may have just made it
                part.mkdir(exist_ok=True)
                archive = _download(source, part) if "://" in source else Path(source)
                unpacked = _unpack(archive, part / "unpacked", source)
                store.sync_disks()
                unpacked.replace(folder)
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DogtlError(
            f"{error.filename or folder}: {error_text(error)}; fix this, and run it"
            " again"
        ) from error
    return folder


def _download(address: str, folder: Path) -> Path:
    """Download all of an archive; try again as long as this makes progress."""
    archive, state_file = folder / "archive", folder / "archive.json"
    failures = farthest = 0
    with open(archive, "ab") as out:
        while failures < TRIES:
            time.sleep(PAUSE * failures)
            try:
                _receive(address, out, state_file)
                return archive
            except HTTPError as error:
                error.close()
                reason = f"HTTP {error.code} {error_text(error)}"
                if error.code == 416:  # the server's file has changed
                    state_file.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    break
            except (OSError, HTTPException, ValueError) as error:
                reason = error_text(error)
            made_progress = out.tell() > farthest
            failures = 1 if made_progress else failures + 1
            farthest = max(farthest, out.tell())
    raise DogtlError(
        f"{address} can't be fetched ({reason}): check that it's right and responds and"
        " that the disk has room, then run this again, which continues from there; or"
        " run dogtl fetch on a connected machine and copy its home here"
    )


def _receive(address: str, out: BinaryIO, state_file: Path) -> None:
    """Request the remaining bytes of an archive once, and append them."""
    state, received, headers = _read_state(state_file), out.tell(), {}
    if received and received == state.get("length"):
        return
    if received and state.get("validator"):  # without it two versions could be joined
        headers = {"Range": f"bytes={received}-", "If-Range": state["validator"]}
    with urlopen(Request(address, headers=headers), timeout=TIMEOUT) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206:  # the server sends the whole archive
            out.seek(0)
            out.truncate()
            state = _describe(response.headers)
            store.atomic_write(state_file, json.dumps(state).encode())
        elif not headers or f"bytes {received}-" not in content_range:
            state_file.unlink(missing_ok=True)  # the next try requests everything
            raise ConnectionError("the server sent another part than requested")
        # A warning, because it must show with -q and in notebooks: this may take long.
        log.warning("fetching %s into %s", address, state_file.parent)
        with progress(None, state["length"], "bytes") as bar:
            bar.update(out.tell())
            while chunk := response.read1(1 << 18):
                bar.update(out.write(chunk))
                out.flush()  # a killed process keeps what's flushed
    if out.tell() < state["length"]:
        raise ConnectionError(f"only {out.tell():,} of {state['length']:,} bytes came")


def _describe(headers: Message) -> dict:
    """Return an archive's length (0 if unknown), and what identifies its version."""
    length, etag = headers.get("Content-Length", ""), headers.get("ETag", "")
    is_strong = etag.startswith('"')  # weak ETags (W/…) can't be used in If-Range
    return {
        "length": int(length) if length.isdecimal() else 0,
        "validator": etag if is_strong else headers.get("Last-Modified", ""),
    }


def _read_state(file: Path) -> dict:
    """Return the stored state of a download; an empty one starts it again."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):  # there is none, or it's damaged
        return {}


def _unpack(archive: Path, folder: Path, source: str) -> Path:
    """Unpack an archive, and check the checksums; return the folder.

    If the archive holds a single folder, that folder is returned.
    """
    shutil.rmtree(folder, ignore_errors=True)
    is_zip = zipfile.is_zipfile(archive)
    try:
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as opened:
            members = opened.infolist() if is_zip else opened.getmembers()
            opened.extraction_filter = tarfile.data_filter  # zipfile needs none
            if not (is_zip or all(m.isreg() or m.isdir() for m in members)):
                raise ValueError("it holds a link or the like")
            size = sum(m.file_size if is_zip else m.size for m in members)
            max_size = MAX_RATIO * archive.stat().st_size + SIZE_ALLOWANCE
            if not 0 < len(members) <= MAX_FILES or size > max_size:
                raise ValueError("it holds nothing, or far too much")
            opened.extractall(folder)
            while not is_zip and opened.fileobj.read(1 << 20):
                pass  # the checksum of a .tar.gz is at its end
    except Exception as error:  # broken archives raise errors of many classes
        if getattr(error, "errno", None):
            raise  # the disk is full, or there's no such archive
        shutil.rmtree(folder.parent)  # so that the next run fetches it again
        raise DogtlError(
            f"{source} isn't a usable archive ({error_text(error)}): fetch it again"
        ) from error
    # Leave out .DS_Store and __MACOSX, which macOS adds.
    content = [path for path in folder.iterdir() if path.name[0] not in "._"]
    return content[0] if len(content) == 1 and content[0].is_dir() else folder
