"""Part of the router: the files of the page at ``/``, and what a browser may do with them.

All files are read when the router starts, and a request is answered from what was read or not at
all: no path leads anywhere else. What a build has named by its content, ``assets/app-1a2b3c4d.js``,
may be kept for ever; everything else is asked for anew each time, which is answered in a few bytes
where it is still the same.

Crossbar makes one Page for the root path of type "resource". ``extra``: ``directory``, the folder;
``services``, the names of the other paths. Crossbar listens before it has made these, one by one:
until then their requests come here, and are told to come again.
"""

import gzip
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import taskbus_bounds
from twisted.web.resource import Resource

_DOCUMENT = "index.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_COMPRESSIBLE = frozenset({".html", ".js", ".css", ".svg", ".txt"})
# Below this a second form of a file gains nothing: it all goes in one packet.
_LEAST_COMPRESSED = 860
_NAMED_BY_CONTENT = re.compile(r"assets/[^/]+-[A-Za-z0-9_-]{8,}\.[a-z0-9]+")
_HEADERS = {
    # 'self' covers ws: and wss: of the page's own host and port.
    b"Content-Security-Policy": b"; ".join(
        [
            b"default-src 'none'", b"script-src 'self'", b"style-src 'self'", b"img-src 'self'",
            b"connect-src 'self'", b"base-uri 'none'", b"form-action 'none'",
            b"frame-ancestors 'none'", b"require-trusted-types-for 'script'",
            b"trusted-types 'none'",
        ]
    ),
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Permissions-Policy": b"camera=(), display-capture=(), geolocation=(), microphone=(),"
    b" midi=(), payment=(), usb=()",
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
}  # fmt: skip


class Page(Resource):
    """The folder's files, of which ``/`` is index.html; 503 below a service until it is there."""

    def __init__(self, extra):
        super().__init__()
        self._answer = _Answer(_read(Path(extra["directory"])), extra["services"])

    def getChild(self, _name, _request):
        return self._answer


class _File(NamedTuple):
    """``packed`` is the same by gzip; None where that is no gain."""

    kind: str
    cache: str
    etag: str
    plain: bytes
    packed: bytes | None


class _Answer(Resource):
    """What is answered for every path, whatever is below it."""

    isLeaf = True

    def __init__(self, files, services):
        super().__init__()
        self._files = files
        self._services = frozenset(name.encode() for name in services)

    def render(self, request):
        headers = request.responseHeaders
        headers.removeHeader(b"server")
        for name, value in _HEADERS.items():
            headers.setRawHeaders(name, [value])
        if request.prepath[0] in self._services:
            headers.setRawHeaders("Retry-After", ["1"])
            told = taskbus_bounds.problem(503, "the router is starting")
            return _refused(request, 503, told, "application/problem+json")
        if request.method not in (b"GET", b"HEAD"):
            headers.setRawHeaders(b"Allow", [b"GET, HEAD"])
            return _refused(request, 405, b"only GET and HEAD are served here\n")
        # As it was sent: a second way to write a path is no path here.
        found = self._files.get(request.path)
        if found is None:
            return _refused(request, 404, b"there is nothing here\n")
        return _sent(request, found)


def _read(folder):
    files = {
        b"/" + file.relative_to(folder).as_posix().encode(): _file(file, folder)
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
    }
    document = files.get(f"/{_DOCUMENT}".encode())
    if document is None:
        raise ValueError(f"router.web: there is no {_DOCUMENT} in {folder}; 'make page' builds it")
    return {b"/": document, **files}


def _file(file, folder):
    data = file.read_bytes()
    path = file.relative_to(folder).as_posix()
    lasts = _NAMED_BY_CONTENT.fullmatch(path)
    packed = None
    if file.suffix in _COMPRESSIBLE and len(data) >= _LEAST_COMPRESSED:
        packed = gzip.compress(data, 9, mtime=0)
    return _File(
        kind=_KINDS.get(file.suffix, "application/octet-stream"),
        cache="public, max-age=31536000, immutable" if lasts else "no-cache",
        etag=hashlib.sha256(data).hexdigest()[:32],
        plain=data,
        packed=packed,
    )


def _sent(request, file):
    headers = request.responseHeaders
    is_packed = file.packed is not None and _takes_gzip(request)
    body = file.packed if is_packed else file.plain
    # Two forms of one file are two things to a cache.
    etag = f'"{file.etag}-gzip"' if is_packed else f'"{file.etag}"'
    headers.setRawHeaders("Cache-Control", [file.cache])
    headers.setRawHeaders("ETag", [etag])
    if file.packed is not None:
        headers.setRawHeaders("Vary", ["Accept-Encoding"])
    if etag.encode() in _words(request, b"if-none-match"):
        request.setResponseCode(304)
        headers.removeHeader("content-type")
        return b""
    headers.setRawHeaders("Content-Type", [file.kind])
    if is_packed:
        headers.setRawHeaders("Content-Encoding", ["gzip"])
    headers.setRawHeaders("Content-Length", [str(len(body))])
    return b"" if request.method == b"HEAD" else body


def _takes_gzip(request):
    for word in _words(request, b"accept-encoding"):
        name, _, weight = word.replace(b" ", b"").lower().partition(b";q=")
        if name == b"gzip":
            return not re.fullmatch(rb"0(\.0*)?", weight)
    return False


def _words(request, header):
    """The members of a header that is a list. What a proxy has packed has a weak ETag."""
    lines = request.requestHeaders.getRawHeaders(header, ())
    words = (word.strip().removeprefix(b"W/") for line in lines for word in line.split(b","))
    return [word for word in words if word]


def _refused(request, status, why, kind="text/plain; charset=utf-8"):
    request.setResponseCode(status)
    request.responseHeaders.setRawHeaders("Content-Type", [kind])
    request.responseHeaders.setRawHeaders("Cache-Control", ["no-store"])
    request.responseHeaders.setRawHeaders("Content-Length", [str(len(why))])
    return b"" if request.method == b"HEAD" else why
