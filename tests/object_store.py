"""A small object store in memory that speaks as much of Amazon's S3 as s3fs does: for tests, without any check of keys.

It keeps how often each object was put. (Amazon S3 API reference: ListObjectsV2, GetObject, PutObject, DeleteObjects.)
"""

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
TIME = "2026-01-01T00:00:00.000Z"
HTTP_TIME = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class Bucket:
    """The objects of a bucket by their keys, and how often each was put."""

    objects: dict[str, bytes] = field(default_factory=dict)
    puts: Counter[str] = field(default_factory=Counter)


class _Store(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, Bucket] = {}

    def handle_error(self, *_words: object) -> None:
        """Say nothing of clients that are killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Store

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def _asked(self) -> tuple[Bucket | None, str, dict[str, list[str]]]:
        """Return the bucket that a request is for, the key, '' for none, and what the address asks."""
        parts = urlsplit(self.path)
        name, _, key = unquote(parts.path).lstrip("/").partition("/")
        return self.server.buckets.get(name), key, parse_qs(parts.query, keep_blank_values=True)

    def do_HEAD(self) -> None:
        bucket, key, _ = self._asked()
        if bucket is None or (key and key not in bucket.objects):
            self._answer(404)
        else:
            self._answer(200, bucket.objects[key] if key else b"", of_object=bool(key))

    def do_GET(self) -> None:
        bucket, key, query = self._asked()
        if bucket is None:
            self._error(404, "NoSuchBucket")
        elif not key:
            self._answer(200, _listing(bucket, query.get("prefix", [""])[0], query.get("delimiter", [""])[0]))
        elif key not in bucket.objects:
            self._error(404, "NoSuchKey")
        else:
            self._send(bucket.objects[key])

    def _send(self, content: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self._answer(200, content, of_object=True)
            return
        first, last = match[1], match[2]
        start = int(first) if first else max(0, len(content) - int(last))
        part = content[start : int(last) + 1] if first and last else content[start:]
        self._answer(
            206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}, of_object=True
        )

    def do_PUT(self) -> None:
        bucket, key, _ = self._asked()
        content = self._body()
        if bucket is None:
            self._error(404, "NoSuchBucket")
            return
        bucket.objects[key] = content
        bucket.puts[key] += 1
        self._answer(200, b"", {"ETag": _tag(content)})

    def do_POST(self) -> None:
        bucket, _, query = self._asked()
        names = re.findall(r"<Key>(.*?)</Key>", self._body().decode())
        if bucket is None or "delete" not in query:
            self._error(501, "NotImplemented")
            return
        for name in names:
            bucket.objects.pop(name, None)
        gone = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
        self._answer(200, f"<DeleteResult {NAMESPACE}>{gone}</DeleteResult>".encode())

    def do_DELETE(self) -> None:
        bucket, key, _ = self._asked()
        if bucket is not None:
            bucket.objects.pop(key, None)
        self._answer(204)

    def _body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return content
        whole, rest = b"", content
        while (size := int((head := rest.partition(b"\r\n"))[0].partition(b";")[0], 16)) > 0:
            whole, rest = whole + head[2][:size], head[2][size + 2 :]
        return whole

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None, *, of_object: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if of_object:
            for name, value in {"ETag": _tag(content), "Last-Modified": HTTP_TIME, "Accept-Ranges": "bytes"}.items():
                self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _listing(bucket: Bucket, prefix: str, delimiter: str) -> bytes:
    """Return the keys with a prefix as XML; those with a delimiter behind it only up to that."""
    contents, folders = [], set()
    for key, content in sorted(bucket.objects.copy().items()):
        if not key.startswith(prefix):
            continue
        rest, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if cut:
            folders.add(f"{prefix}{rest}{cut}")
            continue
        contents.append(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{TIME}</LastModified><ETag>{escape(_tag(content))}</ETag>"
            f"<Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    common = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
    count = len(contents) + len(folders)
    return (
        f"<ListBucketResult {NAMESPACE}><Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(contents)}{common}</ListBucketResult>"
    ).encode()


@contextmanager
def object_store() -> Iterator[tuple[str, dict[str, Bucket]]]:
    """Run an object store, and give its address and its buckets, which are made by adding them."""
    with _Store() as store:
        thread = threading.Thread(target=store.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{store.server_address[1]}", store.buckets
        finally:
            store.shutdown()
            thread.join()
