"""A Hub of one test: the routes that huggingface_hub, transformers and datasets call, held in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from datasets import Dataset
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.models import ARCHITECTURES
from hf_nat.utils import write_json


TOKEN = "hf_thisIsTheOnlyValidTokenOfTheTest"
_LFS_ENDINGS = (".safetensors", ".parquet", ".bin")
MANIFEST = {
    "teacher": "/somewhere/private/runs/teacher",
    "teacher_sha256": "ab" * 32,
    "tokenizer_sha256": "cd" * 32,
    "corpus_sha256": {"train": "ef" * 32},
    "corpus": "/somewhere/private/multi30k/{split}.{lang}.gz",
    "config_name": None,
    "source_lang": "en",
    "target_lang": "de",
    "license": "cc-by-4.0",
    "strategy": "beam",
    "decoding": {"num_beams": 5, "length_penalty": 1.0, "max_new_tokens": 200},
    "seed": 1,
    "counts": {"test": 1, "train": 3, "validation": 1},
    "flag_counts": {"truncated": 2, "looping": 0},
}


class FakeHub(ThreadingHTTPServer):
    """Repositories as `{"models/owner/name": {branch: {path: bytes}}}`, with every request's method and path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[dict[str, Any]] = []
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sha(self, repository: str, branch: str) -> str:
        """A revision that changes with the files."""
        listing = {
            path: hashlib.sha256(data).hexdigest() for path, data in self.repositories[repository][branch].items()
        }
        return hashlib.sha1(json.dumps([branch, listing], sort_keys=True).encode()).hexdigest()

    def branch(self, repository: str, revision: str) -> str | None:
        """Finds the branch of a branch name or sha."""
        branches = self.repositories[repository]
        return next((name for name in branches if revision in (name, self.sha(repository, name))), None)


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Stays silent."""

    def _reply(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("Content_Length", str(len(data))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.broken:
            return self._reply(500, {"error": "out of order"})
        for method, pattern, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                if self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self._reply(401, {"error": "Invalid credentials"})
                return handler(self, body, **match.groupdict())
        return self._reply(404, {"error": f"no route {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch

    def _create(self, body: bytes) -> None:
        request = json.loads(body)
        name = f"{request['organization']}/{request['name']}"
        repository = f"{request.get('type', 'model')}s/{name}"
        status = 409 if repository in self.server.repositories else 200
        self.server.repositories.setdefault(repository, {"main": {}})
        self.server.private.setdefault(repository, request.get("visibility") == "private")
        prefix = "datasets/" if repository.startswith("datasets/") else ""
        self._reply(status, {"url": f"{self.server.url}/{prefix}{name}", "name": name, "id": name})

    def _validate_yaml(self, body: bytes) -> None:
        self._reply(200, {"errors": [], "warnings": []})

    def _create_branch(self, body: bytes, repository: str, branch: str) -> None:
        branches = self.server.repositories[repository]
        status = 409 if branch in branches else 200
        branches.setdefault(branch, dict(branches["main"]))
        self._reply(status, {})

    def _preupload(self, body: bytes, repository: str, branch: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LFS_ENDINGS) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self._reply(200, {"files": files})

    def _lfs_batch(self, body: bytes, **_: str) -> None:
        objects = json.loads(body)["objects"]
        for item in objects:
            if item["oid"] not in self.server.blobs:
                item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
        self._reply(200, {"transfer": "basic", "objects": objects})

    def _lfs_put(self, body: bytes, oid: str) -> None:
        self.server.blobs[oid] = body
        self._reply(200 if hashlib.sha256(body).hexdigest() == oid else 422)

    def _commit(self, body: bytes, repository: str, branch: str) -> None:
        files = self.server.repositories[repository][branch]
        entries = [json.loads(line) for line in body.splitlines()]
        for entry in entries:
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        self.server.commits.append({"repository": repository, "branch": branch, "entries": entries})
        sha = self.server.sha(repository, branch)
        self._reply(
            200, {"success": True, "commitUrl": f"{self.server.url}/{repository}/commit/{sha}", "commitOid": sha}
        )

    def _info(self, body: bytes, repository: str, branch: str = "main") -> None:
        if (found := self._files(repository, branch)) is None:
            return
        name, files = found
        self._reply(
            200,
            {
                "id": repository.split("/", 1)[1],
                "sha": self.server.sha(repository, name),
                "private": self.server.private[repository],
                "tags": [],
                "siblings": [{"rfilename": path} for path in files],
            },
        )

    def _tree(self, body: bytes, repository: str, branch: str, folder: str | None = None) -> None:
        if (found := self._files(repository, branch)) is None:
            return
        recursive = "recursive=true" in self.path.lower()
        start = f"{folder}/" if folder else ""
        entries = {}
        for path, data in found[1].items():
            if path.startswith(start):
                child = start + path[len(start) :].split("/")[0]
                if child != path:
                    entries[child] = {"type": "directory", "path": child, "size": 0, "oid": "0" * 40}
                if child == path or recursive:
                    entries[path] = {"type": "file", "path": path, "size": len(data), "oid": _git_oid(data)}
        if folder and not entries:
            return self._reply(404, X_Error_Code="EntryNotFound")
        self._reply(200, list(entries.values()))

    def _resolve(self, body: bytes, name: str, branch: str, path: str, dataset: str | None = None) -> None:
        repository = f"{'datasets' if dataset else 'models'}/{name}"
        if (found := self._files(repository, branch)) is None:
            return
        if path not in found[1]:
            return self._reply(404, X_Error_Code="EntryNotFound")
        data = found[1][path]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X_Repo_Commit": self.server.sha(repository, found[0]),
        }
        self._reply(200, data, **headers)

    def _files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Finds a branch and its files, or answers 404."""
        if repository not in self.server.repositories:
            self._reply(404, X_Error_Code="RepoNotFound")
            return None
        branch = self.server.branch(repository, revision)
        if branch is None:
            self._reply(404, X_Error_Code="RevisionNotFound")
            return None
        return branch, self.server.repositories[repository][branch]


_REPO = r"/api/(?P<repository>(?:models|datasets)/[^/]+/[^/]+)"
_BRANCH = r"/(?P<branch>[^/]+)"
_FILE = r"/(?P<dataset>datasets/)?(?P<name>[^/]+/[^/]+)/resolve" + _BRANCH + "/(?P<path>.+)"
_ROUTES: list[tuple[tuple[str, ...], str, Any]] = [
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate_yaml),
    (("POST",), _REPO + "/branch" + _BRANCH, _Handler._create_branch),
    (("POST",), _REPO + "/preupload" + _BRANCH, _Handler._preupload),
    (("POST",), _REPO + "/commit" + _BRANCH, _Handler._commit),
    (("POST",), r"/(?:datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    (("PUT",), "/lfs/(?P<oid>[0-9a-f]{64})", _Handler._lfs_put),
    (("GET",), _REPO, _Handler._info),
    (("GET",), _REPO + "/revision" + _BRANCH, _Handler._info),
    (("GET",), _REPO + "/tree" + _BRANCH + "(?:/(?P<folder>.+))?", _Handler._tree),
    (("GET", "HEAD"), _FILE, _Handler._resolve),
]


def _git_oid(data: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def fake_hub() -> Iterator[FakeHub]:
    """A Hub on the loopback interface that accepts one token."""
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A trained and evaluated teacher's folder."""
    folder = tmp_path / "teacher"
    tokenizer = train_tokenizer(["a man reads a book in the park", "ein mann liest im park ein buch"], vocab_size=64)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32}
    start = {"decoder_start_token_id": 0, "forced_eos_token_id": None}
    model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), **special, **sides, **sizes, **start))
    model.generation_config = GenerationConfig(max_new_tokens=8, num_beams=2, decoder_start_token_id=0, **special)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    environment = {"device": "cpu", "versions": {"torch": "2.13.0", "transformers": "5.23.0"}}
    languages = {"source_lang": "en", "target_lang": "de"}
    corpus = "/somewhere/private/multi30k/{split}.{lang}.gz"
    write_json(
        folder / "run.json",
        {
            "arguments": languages
            | {"model_type": "marian", "size": "nano", "corpus": corpus, "init_from_teacher": None, "init_from": None}
            | {"max_tokens": 2048, "learning_rate": 0.0005, "warmup_steps": 400, "seed": 7, "model_config": None},
            "num_parameters": 15123,
            "environment": environment,
        },
    )
    write_json(
        folder / "metrics.json",
        {"eval_loss": 2.34567, "eval_bleu": 29.3456, "eval_bleu_signature": "nrefs:1|tok:none-moses"}
        | {
            "train_seconds": 99.5,
            "num_updates": 4321,
            "epochs": 11.0,
            "seed": 7,
            "best_checkpoint": "checkpoint-4000",
        },
    )
    scores = {
        "bleu": {"score": 31.4159, "signature": "nrefs:1|case:mixed|tok:none-moses"},
        "chrf": {"score": 55.1872, "signature": "nrefs:1|case:mixed|nc:6|nw:0"},
    }
    write_json(
        folder / "eval-test" / "metrics.json",
        {"model": str(folder), "corpus": corpus, "split": "test", "num_sentences": 1000, "scores": scores, **languages}
        | {"seconds": 40.0, "sentences_per_second": 25.0, "iterations_mean": None, "environment": environment}
        | {"decoding": {"num_beams": 5, "reranker": "/somewhere/private/reranker"}},
    )
    return folder


@pytest.fixture
def student_folders(tmp_path: Path) -> list[Path]:
    """A folder of every student architecture as `save_pretrained` leaves it, its code included."""
    tokenizer = train_tokenizer(["a man reads a book in the park", "ein mann liest im park ein buch"], vocab_size=64)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos", "bos", "mask")}
    sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32}
    for name, (config_class, model_class) in ARCHITECTURES.items():
        model_class(config_class(vocab_size=len(tokenizer), **special, **sides, **sizes)).save_pretrained(
            tmp_path / name
        )
        tokenizer.save_pretrained(tmp_path / name)
    return [tmp_path / name for name in ARCHITECTURES]


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """A distilled corpus of two training shards."""
    folder = tmp_path / "distilled"
    (folder / "data").mkdir(parents=True)
    rows = [
        {"id": i, "translation": {"en": "a dog", "de": "ein hund"}, "real_target": "der hund", "flags": []}
        for i in range(3)
    ]
    shards = {"train-00000-of-00002": rows[:2], "train-00001-of-00002": rows[2:]}
    for name, content in (shards | {f"{split}-00000-of-00001": rows[:1] for split in ("validation", "test")}).items():
        Dataset.from_list(content).to_parquet(folder / "data" / f"{name}.parquet")
    write_json(folder / "manifest.json", MANIFEST)
    return folder


@pytest.fixture
def hub_token() -> str:
    """The token that `fake_hub` accepts."""
    return TOKEN
