import hashlib

import pytest

from hf_nat.base.files import atomic_path
from hf_nat.base.utils import environment, read_json, sha256_file, write_json


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        raise RuntimeError("half way")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_is_stable(tmp_path):
    path = tmp_path / "folder" / "value.json"
    write_json(path, {"b": "Straße", "a": [1, None]})
    assert path.read_text(encoding="utf-8") == '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "Straße"\n}\n'
    assert read_json(path) == {"a": [1, None], "b": "Straße"}


def test_sha256_file_hashes_the_bytes(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"abc" * 1000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_environment_names_torch_and_transformers():
    assert {"torch", "transformers"} <= environment()["versions"].keys()
