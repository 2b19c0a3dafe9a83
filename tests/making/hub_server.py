"""A hub of models on the loopback: it answers what huggingface_hub asks, as the Hugging Face hub does."""

import contextlib
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".safetensors", ".parquet")  # kept outside git: the hub redirects to where they are


@dataclass
class Hub:
    """Repositories by name, each a list of commits (newest last) of files by name, and the requests seen so far.

    `drops` is how many more times a large file breaks off after half of its bytes.
    """

    url: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    drops: int = 0

    def push(self, repository: str, folder) -> str:
        """Commit the files of a folder, and return the commit."""
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.repositories.setdefault(repository, []).append(files)
        return commit_of(files)

    def commit(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """The files of a repository at `main` or a commit."""
        commits = self.repositories.get(repository, [])
        return next((files for files in reversed(commits) if revision in ("main", commit_of(files))), None)

    def large(self, digest: str) -> bytes | None:
        """A large file by its SHA-256."""
        commits = (files for commits in self.repositories.values() for files in commits)
        return next((body for files in commits for body in files.values() if sha256(body) == digest), None)

    def downloads(self) -> list[str]:
        """The large files that were asked for, by their SHA-256."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET /large/")]


def sha256(body: bytes) -> str:
    """The digest under which the hub keeps a large file."""
    return hashlib.sha256(body).hexdigest()


def commit_of(files: dict[str, bytes]) -> str:
    """The 40 digits of the commit of these files."""
    return hashlib.sha1(
        json.dumps([[name, sha256(body)] for name, body in files.items()]).encode()
    ).hexdigest()


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        if found := re.fullmatch(
            r"/api/(?:models|datasets)/(.+?)(?:/revision/(\w+))?", self.path.partition("?")[0]
        ):
            self._about(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/(?:datasets/)?(.+?)/resolve/(\w+)/(.+)", self.path):
            self._file(*found.groups())
        elif found := re.fullmatch(r"/large/(\w+)", self.path):
            self._body(
                self.hub.large(found[1]),
                {"ETag": f'"{found[1]}"', **_named("model.safetensors")},
                may_drop=True,
            )
        else:
            self._missing("Sorry, we can't find the page you are looking for.")

    do_GET = do_HEAD

    def _about(self, repository: str, revision: str) -> None:
        files = self.hub.commit(repository, revision)
        if files is None:
            self._missing("Repository not found", **{"X-Error-Code": "RepoNotFound"})
            return
        names = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
        about = {
            "id": repository,
            "modelId": repository,
            "sha": commit_of(files),
            "private": False,
            "siblings": names,
        }
        self._body(json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: str, revision: str, name: str) -> None:
        files = self.hub.commit(repository, revision)
        if files is None:
            self._missing("Repository not found", **{"X-Error-Code": "RepoNotFound"})
            return
        commit = {"X-Repo-Commit": commit_of(files)}
        if name not in files:
            self._missing("Entry not found", **{"X-Error-Code": "EntryNotFound"}, **commit)
            return
        body, digest = files[name], sha256(files[name])
        if name.endswith(LARGE):
            elsewhere = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/large/{digest}"
            linked = {"X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{digest}"', "Location": elsewhere}
            self._body(b"", {**commit, **linked}, status=302)
        else:
            self._body(body, {**commit, **_named(name), "ETag": f'"{hashlib.sha1(body).hexdigest()}"'})

    def _missing(self, text: str, **headers: str) -> None:
        self._body(json.dumps({"error": text}).encode(), {"X-Error-Message": text, **headers}, status=404)

    def _body(
        self, body: bytes | None, headers: dict[str, str], status: int = 200, may_drop: bool = False
    ) -> None:
        body = body or b""
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and status == 200:
            status, whole, body = 206, len(body), body[int(start[1]) :]
            headers = {**headers, "Content-Range": f"bytes {start[1]}-{whole - 1}/{whole}"}
        self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if may_drop and self.hub.drops > 0:
            self.hub.drops -= 1
            body, self.close_connection = body[: len(body) // 2], True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def served(hub: Hub):
    """Within the block the hub answers at `hub.url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def silent():
    """Within the block, the URL of a hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:  # the kernel accepts; nobody reads
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def black_hole():
    """Within the block, the URL of a hub to which packets are lost: Linux drops what a full queue cannot take."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as queue:
        for _ in range(3):
            client = queue.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
