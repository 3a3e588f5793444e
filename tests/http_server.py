"""A small HTTP server on 127.0.0.1 that serves files well, badly, or in part."""

import io
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STAMP = (2017, 3, 8, 12, 0, 0)


@dataclass
class Served:
    """A file and how it is served; `asked` and `sent` say what was wanted of it.

    `answers` are status codes that come first, and `cuts` are the bytes after which
    the next answers break off. `length` declares another length, or none (-1), and
    `pause` waits after each KiB. `wrong_part` sends another part than the one asked
    for, `unasked` the part from that byte on to whoever asks for everything. `to`
    sends to another file.
    """

    body: bytes
    ranges: bool = True
    etag: str | None = '"one"'
    date: str | None = None
    cuts: list[int] = field(default_factory=list)
    length: int | str | None = None
    pause: float = 0
    answers: list[int] = field(default_factory=list)
    wrong_part: bool = False
    unasked: int | None = None
    to: str = ""
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0


class Server:
    """Serves what `files` holds, by path without a query, as long as it's open."""

    def __init__(self):
        self.files: dict[str, Served] = {}
        self.queries: list[str] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,)).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def serve(self, name: str, body: bytes, **options) -> Served:
        self.files[name] = Served(body, **options)
        return self.files[name]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        name, _, query = self.path[1:].partition("?")
        self.owner.queries.append(query)
        served = self.owner.files.get(name)
        if served is None:
            return self.send_error(404)
        wanted = self.headers["Range"]
        served.asked.append(wanted)
        if served.answers:
            return self.send_error(served.answers.pop(0))
        if served.to:
            self.send_response(302)
            self.send_header("Location", f"/{served.to}?{query}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        first = None
        if wanted is None:
            first = served.unasked
        elif served.ranges and self.headers["If-Range"] in (served.etag, served.date):
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if first >= len(served.body):
                return self.send_error(416)
        return self._send(served, first)

    def _send(self, served: Served, first: int | None):
        body, total = memoryview(served.body)[first:], len(served.body)
        given = body[: served.cuts.pop(0)] if served.cuts else body
        self.send_response(200 if first is None else 206)
        if served.length != -1:
            self.send_header("Content-Length", str(served.length or len(body)))
        if first is not None:
            shown = first + served.wrong_part
            self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
        for header, value in (("ETag", served.etag), ("Last-Modified", served.date)):
            if value:
                self.send_header(header, value)
        self.end_headers()
        try:
            for start in range(0, len(given), 1024):
                served.sent += self.wfile.write(given[start : start + 1024])
                time.sleep(served.pause)
        except ConnectionError:  # the other side was killed
            pass
        self.close_connection = True


def zipped(folder: Path | None, top: str = "", more: dict | None = None) -> bytes:
    """A folder's files as a zip; `more` are further entries, by name or ZipInfo."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")) if folder else []:
            if file.is_file():
                name = top + file.relative_to(folder).as_posix()
                archive.writestr(zipfile.ZipInfo(name, STAMP), file.read_bytes())
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(
    folder: Path | None, prefix: str = "./", kind: str = "gz", more: Sequence = ()
) -> bytes:
    """A folder as TF Hub serves a module: a .tar.gz with the files at its top.

    `more` are further members, a `TarInfo` with its bytes each.
    """
    buffer, level = io.BytesIO(), {"compresslevel": 1} if kind == "gz" else {}
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}", **level) as archive:
        for file in sorted(folder.rglob("*")) if folder else []:
            name = prefix + file.relative_to(folder).as_posix()
            archive.add(file, name, recursive=False)
        for member, data in more:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
