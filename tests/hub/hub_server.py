"""A Hub on the loopback interface, held in memory: the routes that huggingface_hub, transformers and datasets call.

It speaks the protocol as the clients' source reads, not as the real Hub was seen to answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


TOKEN = "hf_thisIsTheOnlyValidTokenOfTheTest"
_LFS_ENDINGS = (".safetensors", ".parquet", ".bin")
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by branch and by tag."""

    private: bool
    sdk: str | None
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose "METHOD /path" matches `request`.

    `status` is answered instead of the reply. `cut_after` ends the connection once so many bytes of the body are
    through, those of the request or, for GET, of the reply. `lose_reply` does what is asked and then says nothing.
    """

    request: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    lose_reply: bool = False
    times: int = 1


@dataclass
class Request:
    """One request that came in, with the bytes of both bodies that went over the wire."""

    line: str
    range: str | None
    received: int = 0
    sent: int = 0
    status: int | None = None


class HubServer(ThreadingHTTPServer):
    """Repositories by "models/owner/name", commits by their hash, and a log of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.commits: dict[str, Files] = {}
        self.messages: list[str] = []
        self.blobs: Files = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.part_size: int | None = None
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repository: str, revision: str = "main") -> Files:
        """The files of a branch, tag or commit."""
        return self.commits[self.resolve(repository, revision) or ""]

    def resolve(self, repository: str, revision: str) -> str | None:
        """The commit that a revision of a repository names."""
        found = self.repositories[repository]
        return {**found.branches, **found.tags}.get(revision, revision if revision in self.commits else None)

    def commit(self, repository: str, branch: str, files: Files, message: str) -> str:
        """Makes a commit, by anybody."""
        parent = self.repositories[repository].branches.get(branch, "")
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        sha = hashlib.sha1(json.dumps([repository, parent, digests], sort_keys=True).encode()).hexdigest()
        self.commits[sha] = files
        self.repositories[repository].branches[branch] = sha
        self.messages.append(message)
        return sha

    def uploaded(self) -> int:
        """Bytes that came in as contents of large files."""
        return sum(request.received for request in self.log if request.line.startswith("PUT /lfs/"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stays silent about connections that were cut."""


class _Cut(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def log_message(self, *args: Any) -> None:
        """Stays silent."""

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.request_log = Request(f"{self.command} {path}", self.headers.get("Range"))
        with self.server.lock:
            self.server.log.append(self.request_log)
            self.fault = next(
                (f for f in self.server.faults if f.times and re.match(f.request, self.request_log.line)), None
            )
            if self.fault is not None:
                self.fault.times -= 1
        try:
            self._answer(path)
        except _Cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch

    def _answer(self, path: str) -> None:
        body = self._body()
        if self.fault is not None and self.fault.status is not None:
            return self._reply(self.fault.status, {"error": "injected"}, self.fault.headers)
        for method, pattern, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                # The storage's own addresses are signed.
                if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self._reply(401, {"error": "Invalid credentials"})
                return handler(self, body, **match.groupdict())
        return self._reply(404, {"error": f"no route {path}"})

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        cut = self.fault.cut_after if self.fault is not None and self.command != "GET" else None
        body = self.rfile.read(length if cut is None else min(cut, length))
        self.request_log.received = len(body)
        if cut is not None:
            raise _Cut
        return body

    def _reply(self, status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        if self.fault is not None and self.fault.lose_reply:
            raise _Cut
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.request_log.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.fault.cut_after if self.fault is not None else None
        data = data[:cut]
        self.request_log.sent = len(data)
        self.wfile.write(data)
        if cut is not None:
            self.wfile.flush()
            raise _Cut

    # Writing

    def _create(self, body: bytes) -> None:
        request = json.loads(body)
        name = f"{request['organization']}/{request['name']}"
        kind = request.get("type") or "model"
        repository = f"{kind}s/{name}"
        status = 409 if repository in self.server.repositories else 200
        if status == 200:
            private = request.get("visibility") == "private"
            self.server.repositories[repository] = Repository(private, request.get("sdk"), {})
            self.server.commit(repository, "main", {".gitattributes": b"*.parquet filter=lfs\n"}, "initial commit")
        prefix = "" if kind == "model" else f"{kind}s/"
        self._reply(status, {"url": f"{self.server.url}/{prefix}{name}", "name": name, "id": name})

    def _validate_yaml(self, body: bytes) -> None:
        self._reply(200, {"errors": [], "warnings": []})

    def _create_branch(self, body: bytes, repository: str, branch: str) -> None:
        branches = self.server.repositories[repository].branches
        status = 409 if branch in branches else 200
        branches.setdefault(branch, branches["main"])
        self._reply(status, {})

    def _create_tag(self, body: bytes, repository: str, branch: str) -> None:
        tags, tag = self.server.repositories[repository].tags, json.loads(body)["tag"]
        status = 409 if tag in tags else 200
        tags.setdefault(tag, self.server.resolve(repository, branch) or "")
        self._reply(status, {})

    def _preupload(self, body: bytes, repository: str, branch: str) -> None:
        there = self.server.files(repository, branch)
        files = []
        for path in (file["path"] for file in json.loads(body)["files"]):
            mode = "lfs" if path.endswith(_LFS_ENDINGS) else "regular"
            oid = _oid(path, there[path]) if path in there else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._reply(200, {"files": files})

    def _lfs_batch(self, body: bytes, **_: str) -> None:
        objects = json.loads(body)["objects"]
        size = self.server.part_size
        for item in (item for item in objects if item["oid"] not in self.server.blobs):
            href = f"{self.server.url}/lfs/{item['oid']}"
            upload: dict[str, Any] = {"href": href}
            if size is not None and item["size"] > size:
                numbers = range(1, -(-item["size"] // size) + 1)
                parts = {str(number): f"{href}/{number}" for number in numbers}
                upload = {"href": f"{href}/complete", "header": {"chunk_size": str(size), **parts}}
            item["actions"] = {"upload": upload, "verify": {"href": f"{href}/verify"}}
        self._reply(200, {"transfer": "basic", "objects": objects})

    def _lfs_put(self, body: bytes, oid: str, part: str | None = None) -> None:
        if part is None:
            return self._store(oid, body)
        self.server.parts.setdefault(oid, {})[int(part)] = body
        return self._reply(200, headers={"ETag": hashlib.sha256(body).hexdigest()})

    def _lfs_complete(self, body: bytes, oid: str) -> None:
        parts = self.server.parts.pop(oid)
        self._store(oid, b"".join(parts[entry["partNumber"]] for entry in json.loads(body)["parts"]))

    def _store(self, oid: str, data: bytes) -> None:
        sound = hashlib.sha256(data).hexdigest() == oid
        if sound:
            self.server.blobs[oid] = data
        self._reply(200 if sound else 422)

    def _lfs_verify(self, body: bytes, oid: str) -> None:
        self._reply(200 if len(self.server.blobs[oid]) == json.loads(body)["size"] else 422)

    def _commit(self, body: bytes, repository: str, branch: str) -> None:
        files = dict(self.server.files(repository, branch))
        header, *entries = (json.loads(line) for line in body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent not in (None, self.server.resolve(repository, branch)):
            return self._reply(412, {"error": "A commit has happened since. Please refresh and try again."})
        for key, value in ((entry["key"], entry["value"]) for entry in entries):
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            else:
                del files[value["path"]]
        sha = self.server.commit(repository, branch, files, header["value"]["summary"])
        url = f"{self.server.url}/{repository}/commit/{sha}"
        return self._reply(200, {"success": True, "commitUrl": url, "commitOid": sha})

    # Reading

    def _refs(self, body: bytes, repository: str) -> None:
        found = self.server.repositories[repository]
        refs = {
            key: [{"name": name, "ref": f"refs/{name}", "targetCommit": sha} for name, sha in names.items()]
            for key, names in (("branches", found.branches), ("tags", found.tags))
        }
        self._reply(200, {**refs, "converts": []})

    def _info(self, body: bytes, repository: str, branch: str = "main") -> None:
        if (sha := self._found(repository, branch)) is not None:
            siblings = [{"rfilename": path} for path in self.server.commits[sha]]
            private = self.server.repositories[repository].private
            name = repository.split("/", 1)[1]
            self._reply(200, {"id": name, "sha": sha, "private": private, "tags": [], "siblings": siblings})

    def _tree(self, body: bytes, repository: str, branch: str, folder: str | None = None) -> None:
        if (sha := self._found(repository, branch)) is None:
            return
        start = f"{folder}/" if folder else ""
        entries = {}
        for path, data in self.server.commits[sha].items():
            if path.startswith(start):
                child = start + path[len(start) :].split("/")[0]
                if child != path:
                    entries[child] = {"type": "directory", "path": child, "size": 0, "oid": "0" * 40}
                if child == path or "recursive=true" in self.path.lower():
                    entries[path] = _entry(path, data)
        if folder and not entries:
            return self._reply(404, headers={"X-Error-Code": "EntryNotFound"})
        return self._reply(200, list(entries.values()))

    def _paths_info(self, body: bytes, repository: str, branch: str) -> None:
        if (sha := self._found(repository, branch)) is not None:
            files = self.server.commits[sha]
            paths = json.loads(body)["paths"]
            self._reply(200, [_entry(path, files[path]) for path in paths if path in files])

    def _resolve(self, body: bytes, name: str, branch: str, path: str, kind: str | None = None) -> None:
        if (sha := self._found(f"{kind or 'models'}/{name}", branch)) is None:
            return
        if path not in self.server.commits[sha]:
            return self._reply(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        data = self.server.commits[sha][path]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self._reply(200, data, headers)
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        return self._reply(
            206, data[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        )

    def _found(self, repository: str, revision: str) -> str | None:
        """Finds a commit, or answers 404."""
        known = repository in self.server.repositories
        sha = self.server.resolve(repository, revision) if known else None
        if sha is None:
            self._reply(404, headers={"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
        return sha


_REPO = r"/api/(?P<repository>(?:models|datasets|spaces)/[^/]+/[^/]+)"
_BRANCH = r"/(?P<branch>[^/]+)"
_FILE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)/resolve" + _BRANCH + "/(?P<path>.+)"
_LFS = "/lfs/(?P<oid>[0-9a-f]{64})"
_ROUTES: list[tuple[tuple[str, ...], str, Any]] = [
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate_yaml),
    (("POST",), _REPO + "/branch" + _BRANCH, _Handler._create_branch),
    (("POST",), _REPO + "/tag" + _BRANCH, _Handler._create_tag),
    (("POST",), _REPO + "/preupload" + _BRANCH, _Handler._preupload),
    (("POST",), _REPO + "/commit" + _BRANCH, _Handler._commit),
    (("POST",), _REPO + "/paths-info" + _BRANCH, _Handler._paths_info),
    (("POST",), r"/(?:(?:datasets|spaces)/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    (("PUT",), _LFS + "(?:/(?P<part>[0-9]+))?", _Handler._lfs_put),
    (("POST",), _LFS + "/complete", _Handler._lfs_complete),
    (("POST",), _LFS + "/verify", _Handler._lfs_verify),
    (("GET",), _REPO, _Handler._info),
    (("GET",), _REPO + "/revision" + _BRANCH, _Handler._info),
    (("GET",), _REPO + "/refs", _Handler._refs),
    (("GET",), _REPO + "/tree" + _BRANCH + "(?:/(?P<folder>.+))?", _Handler._tree),
    (("GET", "HEAD"), _FILE, _Handler._resolve),
]


def _oid(path: str, data: bytes) -> str:
    """The name of a file's content: its SHA-256 in LFS, or what git gives it."""
    if path.endswith(_LFS_ENDINGS):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    lfs = (
        {"lfs": {"oid": _oid(path, data), "size": len(data), "pointerSize": 134}}
        if path.endswith(_LFS_ENDINGS)
        else {}
    )
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest(), **lfs}
