"""What the name of a corpus or model means: files, a folder, or a repository of the Hub."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download

from .network import offline_without_network


_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
JSON_LINES = (".jsonl", ".jsonl.gz")
TEXT_TABLES = (*JSON_LINES, ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_FILE_SUFFIXES = (
    ".arpa",
    ".bin",
    ".binary",
    ".csv",
    ".gz",
    ".json",
    ".jsonl",
    ".parquet",
    ".pt",
    ".safetensors",
    ".tsv",
    ".txt",
    ".yaml",
)


@contextmanager
def local_or_hub(name: str | Path, parameter: str) -> Iterator[None]:
    """Guards the lines that load something from a folder here or from the Hub.

    What looks like a path that does not exist is an error at once: the Hub is not asked for it. If the Hub has no such
    repository, or cannot be reached, the error tells both readings of the name; without network one request finds out,
    and what is in the Hub's cache is loaded from there.

    Args:
        name (`str` or `Path`): a path, or the id of a repository.
        parameter (`str`): name of the option, for the message.

    Raises:
        FileNotFoundError: if the name is a path without anything there.
        OSError: if nothing lies there and the Hub does not give it.
    """
    if os.path.exists(name):
        yield
        return
    require_hub_id(name, parameter)
    with offline_without_network() as fault:
        try:
            yield
        except OSError as error:
            reason = fault or str(error).strip().split("\n")[0].rstrip(".")
            raise OSError(
                f"`{parameter}` must be a folder here or a repository of the Hub, but there is no "
                f"`{os.path.abspath(name)}`, and the Hub does not give `{name}`: {reason}."
            ) from error


def local_folder(
    path: str | Path, *, parameter: str = "model", revision: str | None = None, patterns: Sequence[str] = ()
) -> Path:
    """Returns a folder as it is, or that of the files of a Hub id, which are downloaded.

    Args:
        path (`str` or `Path`): a folder, or a Hub id of a model.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        patterns (`Sequence[str]`, *optional*): names of the files that are needed, with `*`.

    Raises:
        OSError: if there is no such folder and the Hub does not give it.
    """
    with local_or_hub(path, parameter):
        if os.path.exists(path):
            return Path(path)
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=list(patterns) or None))


def require_hub_id(name: str | Path, parameter: str) -> None:
    """Raises FileNotFoundError for the name of a missing file or folder that is hardly meant for the Hub.

    That is one with more than one separator, with the suffix of a file, that begins with `.`, `/` or `~`, or whose
    first part is a folder here.
    """
    name = str(name)
    owner, _, rest = name.partition("/")
    if not _HUB_ID.fullmatch(name) or name.endswith(_FILE_SUFFIXES):
        raise FileNotFoundError(f"`{parameter}` must be a Hub id, a folder or files, but there is no `{name}`.")
    if rest and os.path.isdir(owner):
        raise FileNotFoundError(
            f"`{parameter}` must be a Hub id, a folder or files, but there is no `{name}`: the folder `{owner}` here "
            f"has no `{rest}`. If you mean {name} on the Hub, run the command in a folder without `{owner}`."
        )


def may_be_hub_id(name: str | Path) -> bool:
    """Tells whether `require_hub_id` lets a name pass: one that does may be meant for the Hub."""
    try:
        require_hub_id(name, "name")
    except FileNotFoundError:
        return False
    return True


def is_here(name: str | Path, parameter: str) -> bool:
    """Tells whether something is on this machine; raises as `require_hub_id` if it can be nowhere."""
    if not os.path.exists(name):
        require_hub_id(name, parameter)
        return False
    return True


def text_patterns(
    corpus: str | Path | Sequence[str | Path], split: str, languages: tuple[str, ...]
) -> list[str] | None:
    """Returns the names of two text files, `{split}` still in them, or `None` for a corpus of another form.

    Raises:
        ValueError: if it names more files than two, or one text file.
    """
    if isinstance(corpus, str | Path):
        if os.path.exists(corpus):
            return None
        if "{lang}" in str(corpus):
            return [str(corpus).replace("{lang}", lang) for lang in languages]
        pair = _split_pair(str(corpus), split)
    else:
        pair = [str(path) for path in corpus]
    if pair is not None and len(pair) != 2:
        raise ValueError(f"`corpus` must name two text files, [source, target], got {pair}.")
    return pair


def source_files(source: str | Path, split: str, language: str) -> list[str] | None:
    """Returns the text files of sources alone, or `None` for sources of another form.

    Args:
        source (`str` or `Path`): a text file, or a pattern with `*`, `{lang}` or `{split}`; what exists is taken
            as it is.
        split (`str`): split to load.
        language (`str`): key of the source language.

    Raises:
        FileNotFoundError: if a pattern with `{lang}` has no files.
        ValueError: as `find_files`.
    """
    name = str(source)
    if os.path.exists(name):
        return None if os.path.isdir(name) or is_table(name) else [name]
    if "{lang}" in name:
        return find_files(name.replace("{lang}", language), split)
    if is_table(name) or not glob.glob(name.replace("{split}", "*"), recursive=True):
        return None
    return find_files(name, split)


def _split_pair(corpus: str, split: str) -> list[str] | None:
    """Parts "source,target" into two names, at the comma that leaves two files if the names have commas themselves.

    Returns:
        `list[str]`, or `None` if there is no comma.
    """
    parts = corpus.split(",")
    pairs = [[",".join(parts[:cut]), ",".join(parts[cut:])] for cut in range(1, len(parts))]
    found = [pair for pair in pairs if all(os.path.exists(_with_split(name, split)) for name in pair)]
    if len(found) == 1:
        return found[0]
    return None if len(parts) == 1 else parts


def local_files(corpus: str | Path | Sequence[str | Path], split: str, languages: tuple[str, ...]) -> list[str]:
    """Returns the files here that a corpus is read from, none for one of the Hub.

    Args:
        corpus (`str`, `Path` or sequence of two of them): as `load_corpus` takes it.
        split (`str`): split to load.
        languages (`tuple[str, ...]`): keys of source and target language, or of the source where it is read alone.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: as `text_patterns` and `find_files`.
    """
    if len(languages) == 1 and isinstance(corpus, str | Path):
        if (files := source_files(corpus, split, languages[0])) is not None:
            return files
    elif texts := text_patterns(corpus, split, languages):
        return [find_file(text, split) for text in texts]
    name = str(corpus)
    if os.path.isdir(name):
        return sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
    return find_files(name, split) if os.path.exists(name) or is_table(name) else []


def same_rows_for_every_split(corpus: str | Path | Sequence[str | Path]) -> bool:
    """Tells whether `load_corpus` gives the same rows for every split: files whose names do not tell the split.

    Args:
        corpus (`str`, `Path` or sequence of two of them): as `load_corpus` takes it.
    """
    if not isinstance(corpus, str | Path):
        return not any("{split}" in str(path) for path in corpus)
    if os.path.exists(corpus):
        return not os.path.isdir(corpus)
    name = str(corpus)
    return "{split}" not in name and ("," in name or "{lang}" in name or is_table(name))


def has_configurations(corpus: str | Path | Sequence[str | Path]) -> bool:
    """Tells whether a corpus is a folder or a dataset of the Hub, which can hold several configurations; files do not.

    Args:
        corpus (`str`, `Path` or sequence of two of them): as `load_corpus` takes it.
    """
    if not isinstance(corpus, str | Path):
        return False
    name = str(corpus)
    return os.path.isdir(name) or not (os.path.exists(name) or "{lang}" in name or "," in name or is_table(name))


def is_table(name: str) -> bool:
    """Tells by its suffix a file with columns."""
    return name.endswith((".parquet", *TEXT_TABLES))


def find_files(pattern: str, split: str) -> list[str]:
    """Returns the files that `pattern` names, `{split}` in it standing for the split: one of that name, else a glob.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are none of this split, but of others, which are named.
    """
    if not os.path.exists(_with_split(pattern, split)):
        matches = sorted(glob.glob(pattern.replace("{split}", glob.escape(split)), recursive=True))
        if files := [file for file in matches if not os.path.isdir(file)]:
            return files
    return [find_file(pattern, split)]


def find_file(pattern: str, split: str) -> str:
    """Returns the file that has the name `pattern`, or that with the split for `{split}`; raises as `find_files`."""
    path = _with_split(pattern, split)
    if os.path.isdir(path):
        raise IsADirectoryError(f"`corpus` must name a file, but `{path}` is a folder. Name a file in it.")
    if os.path.exists(path):
        return path
    if "{split}" in pattern:
        before, after = (re.escape(part).replace(r"\*", ".*") for part in pattern.split("{split}", 1))
        found = (re.fullmatch(f"{before}(.+){after}", name) for name in glob.glob(pattern.replace("{split}", "*")))
        splits = {match.group(1) for match in found if match}
        if splits:
            raise unknown_split(split, pattern, splits)
    raise FileNotFoundError(f"`corpus` must name existing files, but there is no `{path}`.")


def _with_split(pattern: str, split: str) -> str:
    """Puts the split into a name, unless there is a file of just this name."""
    return pattern if os.path.exists(pattern) else pattern.replace("{split}", split)


def unknown_split(split: str, corpus: str, splits: Sequence[str] | set[str]) -> ValueError:
    """Makes the error of a split that a corpus does not have."""
    return ValueError(
        f"`split` must be one of {sorted(splits)} for `{corpus}`, got {split!r}. Name the split to read by `split`, "
        "or `train_split`, `validation_split` and `test_split`, of which the last two may be null."
    )
