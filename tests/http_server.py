"""A small HTTP server on 127.0.0.1 that serves files well, badly, or in part."""

import io
import tarfile
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file and how it is served; `asked` and `sent` say what was wanted of it.

    `answers` are status codes that come first, and `cuts` are the bytes after which
    the next answers break off. `length` is declared instead of the true one (empty:
    none), without `ranges` every answer starts at `part` (None: it's the whole),
    `pause` waits after each KiB, and `to` sends to another file.
    """

    body: bytes
    ranges: bool = True
    etag: str = '"one"'
    date: str = ""
    length: str | None = None
    part: int | None = None
    pause: float = 0
    to: str = ""
    answers: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0


class Server(ThreadingHTTPServer):
    """Serves what `files` holds, by path without a query, as long as it's open."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.queries = {}, []
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    def server_close(self):
        self.shutdown()
        super().server_close()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def serve(self, name: str, body: bytes, **options) -> Served:
        self.files[name] = Served(body, **options)
        return self.files[name]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        name, _, query = self.path[1:].partition("?")
        self.server.queries.append(query)
        served, wanted = self.server.files[name], self.headers["Range"]
        served.asked.append(wanted)
        headers = {"ETag": served.etag, "Last-Modified": served.date}
        if served.answers:
            return self.send_error(served.answers.pop(0))
        if served.to:
            to = served.to if ":" in served.to else f"/{served.to}?{query}"
            return self._send(served, 302, {"Location": to})
        first, last = served.part, len(served.body) - 1
        if wanted and served.ranges and self.headers["If-Range"] in headers.values():
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first is None:
            return self._send(served, 200, headers)
        if first > last:
            return self.send_error(416)
        headers["Content-Range"] = f"bytes {first}-{last}/{last + 1}"
        return self._send(served, 206, headers, first)

    def _send(self, served: Served, status: int, headers: dict, first: int = 0):
        body = served.body[first:]
        length = str(len(body)) if served.length is None else served.length
        self.send_response(status)
        headers["Content-Length"] = length
        for header in filter(headers.get, headers):
            self.send_header(header, headers[header])
        self.end_headers()
        body = body[: served.cuts.pop(0)] if served.cuts else body
        with suppress(ConnectionError):  # the other side may be killed
            for start in range(0, len(body), 1024):
                served.sent += self.wfile.write(body[start : start + 1024])
                time.sleep(served.pause)


def zipped(members) -> bytes:
    """A zip of pairs: a name or a ZipInfo, and the bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(folder=None, top="./", kind="gz", members=()) -> bytes:
    """A folder as a .tar.gz, as TF Hub has them, or pairs with names or TarInfos."""
    files = [file for file in folder.rglob("*") if file.is_file()] if folder else []
    found = [(top + f.relative_to(folder).as_posix(), f.read_bytes()) for f in files]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
        for name, data in [*found, *members]:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
