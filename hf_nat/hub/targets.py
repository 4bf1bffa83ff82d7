"""Where a push goes: a repository on the Hub as it is at one commit, or a folder here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

from ..base.files import atomic_path


# What git refuses in the name of a branch or tag, see `git check-ref-format`.
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|^@$|^[-/]|[/.]$|(^|/)\.|\.lock(/|$)|^$")


def check_ref(option: str, name: str | None) -> None:
    """Raises ValueError unless `name` can be that of a branch or tag, or is none."""
    if name is not None and _NO_REF.search(name):
        raise ValueError(
            f"`{option}` must be a name that git takes (no blank, no '..', none of ~^:?*[\\, no '-', '/' or '.' at its"
            f" ends), got {name!r}. Use, for instance, v1.0."
        )


def check_local_dir(local_dir: Path, folder: Path) -> None:
    """Raises ValueError unless corpora can be put together in `local_dir`: it is new, or holds them already.

    Args:
        local_dir (`Path`): where they go.
        folder (`Path`): the corpus that comes, which must lie elsewhere.
    """
    there, here = local_dir.resolve(), folder.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise ValueError(
            f"`local_dir` must lie beside `folder`, got {str(local_dir)!r} for {str(folder)!r}. Use another folder."
        )
    if there.exists() and not there.is_dir():
        raise ValueError(f"`local_dir` must be a folder, but {str(local_dir)!r} is a file. Use another name.")
    names = {path.name for path in there.iterdir() if not path.name.startswith(".")} if there.exists() else set()
    has_corpora = any(there.glob("*/*.parquet")) or any(there.glob("*/manifest.json"))
    if names - {"README.md"} and (not has_corpora or "config.json" in names):
        raise ValueError(
            f"`local_dir` must be new or empty, or hold corpora that were put there, got {str(local_dir)!r} with "
            f"{sorted(names)[:3]}. Use another folder."
        )


class Target(Protocol):
    """What `push` writes to."""

    def paths(self) -> Sequence[str]:
        """Lists the files that are there."""

    def fetch(self, patterns: Sequence[str], folder: Path) -> None:
        """Copies the files that match into a folder here."""

    def write(self, additions: Mapping[str, Path | bytes], deletions: Sequence[str], message: str) -> str:
        """Adds or replaces files, deletes others, and returns where they are."""


@dataclass(frozen=True)
class HubTarget:
    """A repository on the Hub; everything is read from, and committed on top of, its commit `head`.

    Args:
        api (`HfApi`): the client.
        repo_id (`str`): owner/name.
        repo_type (`str`): "model", "dataset" or "space".
        head (`str`): last commit of the branch.
        revision (`str`, *optional*): the branch; by default main.
        tag (`str`, *optional*): tag that the commit gets.
    """

    api: HfApi
    repo_id: str
    repo_type: str
    head: str
    revision: str | None = None
    tag: str | None = None

    @classmethod
    def open(
        cls,
        repo_id: str,
        repo_type: str,
        *,
        private: bool,
        revision: str | None = None,
        tag: str | None = None,
        space_sdk: str | None = None,
    ) -> HubTarget:
        """Creates the repository and the branch if there are none, and reads the last commit.

        Raises:
            ValueError: if `tag` is the name of an older commit.
        """
        api = HfApi()
        api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=space_sdk, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        head = str(api.repo_info(repo_id, revision=revision, repo_type=repo_type).sha)
        target = cls(api, repo_id, repo_type, head, revision, tag)
        if tag is not None and target._tagged() not in (None, head):
            raise ValueError(
                f"`tag` must be new, but {tag!r} of {repo_id} is the name of commit {target._tagged()}. Choose "
                "another one, or delete that with `hf repos tag delete`."
            )
        return target

    def paths(self) -> Sequence[str]:
        """Lists the files of the commit."""
        return self.api.list_repo_files(self.repo_id, revision=self.head, repo_type=self.repo_type)

    def fetch(self, patterns: Sequence[str], folder: Path) -> None:
        """Downloads the files that match."""
        for path in filter_repo_objects(self.paths(), allow_patterns=list(patterns)):
            self.api.hf_hub_download(
                self.repo_id, path, revision=self.head, repo_type=self.repo_type, local_dir=folder
            )

    def write(self, additions: Mapping[str, Path | bytes], deletions: Sequence[str], message: str) -> str:
        """Makes one commit, tagged if `tag` says so, and returns its address; if nothing changes there is none."""
        commit = self.api.create_commit(
            self.repo_id,
            operations=[
                *(CommitOperationDelete(path) for path in deletions),
                *(CommitOperationAdd(path, content) for path, content in additions.items()),
            ],
            commit_message=message,
            repo_type=self.repo_type,
            revision=self.revision,
            parent_commit=self.head,
        )
        if self.tag is not None and self._tagged() != commit.oid:
            self.api.create_tag(self.repo_id, tag=self.tag, revision=commit.oid, repo_type=self.repo_type)
        return str(commit.commit_url)

    def _tagged(self) -> str | None:
        """Returns the commit that `tag` names."""
        tags = self.api.list_repo_refs(self.repo_id, repo_type=self.repo_type).tags
        return next((tag.target_commit for tag in tags if tag.name == self.tag), None)


@dataclass(frozen=True)
class FolderTarget:
    """A folder here, laid out as the repository would be.

    Args:
        folder (`Path`): the folder; made if it does not exist.
    """

    folder: Path

    def paths(self) -> Sequence[str]:
        """Lists the files of the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def fetch(self, patterns: Sequence[str], folder: Path) -> None:
        """Copies the files that match."""
        for path in filter_repo_objects(self.paths(), allow_patterns=list(patterns)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / path, folder / path)

    def write(self, additions: Mapping[str, Path | bytes], deletions: Sequence[str], message: str) -> str:
        """Copies the files, the card last, so that it lists only what is there, and returns the folder."""
        for path in sorted(additions, key=lambda path: path == "README.md"):
            content = additions[path]
            with atomic_path(self.folder / path) as temporary:
                if isinstance(content, Path):
                    shutil.copyfile(content, temporary)
                else:
                    temporary.write_bytes(content)
        for path in deletions:
            (self.folder / path).unlink()
        return str(self.folder)
