"""A model hub on loopback: as much of Hugging Face's API as a pull and a search ask for, and what
goes wrong there."""

import hashlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse

CHUNK = 1 << 16
LFS_ENDINGS = (".gguf", ".safetensors", ".bin", ".model")


def git_name(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    def __init__(self, files: dict[str, bytes], **more):
        self.files = files
        self.commit = hashlib.sha1(repr(sorted(files)).encode()).hexdigest()
        self.revisions = {"main", self.commit}
        self.gated = more.get("gated", False)
        self.listed = more.get("listed", {})  # members of files that are listed otherwise

    def siblings(self):
        for name, data in self.files.items():
            row = {"rfilename": name, "size": len(data), "blobId": git_name(data)}
            if name.endswith(LFS_ENDINGS):
                sha256 = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            row.update(self.listed.get(name, {}))
            yield row


class Sent:
    """One answer's body: which file, from where, how many bytes."""

    def __init__(self, name, start, headers):
        self.name, self.start, self.headers, self.bytes = name, start, headers, 0


class ModelHub:
    """Set `drop_after` to cut every answer of a file after that many bytes, `times` times; `hold_at`
    to stop sending at that byte until `go` is set; `elsewhere` to redirect to another host name;
    `hold_searches` to leave searches without an answer: `left` is set when the asker ends one."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.sent: list[Sent] = []
        self.lists = 0
        self.seen_elsewhere: list[dict] = []
        self.drop_after, self.times = None, 0
        self.answers: list[tuple[int, dict]] = []  # statuses to give before any file
        self.hold_at = None
        self.go = threading.Event()
        self.hold_searches, self.left = False, threading.Event()
        self.held = threading.Event()
        self.elsewhere = False
        self.token = None  # what gated models ask for
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()

    def fetched(self) -> int:
        return sum(sent.bytes for sent in self.sent)

    # --- answers ---

    def plain(self, request, status: int, data: bytes = b"{}", **headers):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def answer(self, request):
        url = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(url.path)
        if path == "/api/models":
            return self.search(request, urllib.parse.parse_qs(url.query))
        if found := re.fullmatch(r"/api/models/(.+)/revision/(.+)", path):
            return self.list(request, *found.groups())
        if found := re.fullmatch(r"/(.+?/.+?)/resolve/([0-9a-f]{40})/(.+)", path):
            return self.file(request, *found.groups())
        return self.plain(request, 404)

    def allowed(self, request, repo) -> bool:
        return not repo.gated or request.headers["Authorization"] == f"Bearer {self.token}"

    def search(self, request, query):
        if self.hold_searches:
            self.held.set()
            if request.connection.recv(1) == b"":  # nothing comes but the end
                self.left.set()
            return None
        words = query["search"][0].lower()
        rows = [
            {"id": id, "downloads": 7, "likes": 1, "gated": repo.gated, "tags": ["gguf"]}
            | {"lastModified": "2026-01-02T03:04:05.000Z"}
            for id, repo in self.repos.items()
            if words in id.lower()
        ]
        self.plain(request, 200, json.dumps(rows).encode())

    def list(self, request, id, revision):
        self.lists += 1
        repo = self.repos.get(id)
        if repo is None or revision not in repo.revisions:
            return self.plain(request, 404, b'{"error":"Repository not found"}')
        if not self.allowed(request, repo):
            return self.plain(request, 401, b'{"error":"Access is restricted"}')
        body = {"id": id, "sha": repo.commit, "siblings": list(repo.siblings())}
        return self.plain(request, 200, json.dumps(body).encode())

    def file(self, request, id, commit, name):
        repo = self.repos[id]
        if self.answers:
            status, headers = self.answers.pop(0)
            return self.plain(request, status, **headers)
        if request.headers["Host"].startswith("localhost"):
            self.seen_elsewhere.append(dict(request.headers))
        elif not self.allowed(request, repo):
            return self.plain(request, 403)
        elif self.elsewhere:
            where = f"http://localhost:{self.port}{request.path}"
            return self.plain(request, 302, Location=where)
        return self.send(request, name, repo.files[name])

    def send(self, request, name, data):
        start = 0
        if found := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start = int(found[1])
        sent = Sent(name, start, dict(request.headers))
        self.sent.append(sent)
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        end = len(data)
        cut = self.drop_after is not None and self.times > 0
        if cut and start + self.drop_after < end:
            self.times -= 1
            end = start + self.drop_after
        at = start
        while at < end:
            stop = min(end, at + CHUNK)
            if self.hold_at is not None and at < self.hold_at:
                stop = min(stop, self.hold_at)
            elif self.hold_at is not None and not self.go.is_set():
                request.wfile.flush()
                self.held.set()
                self.go.wait()
            try:
                request.wfile.write(data[at:stop])
            except OSError:
                break
            sent.bytes += stop - at
            at = stop
        request.close_connection = end < len(data)


def folder(path: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
