"""What of a folder goes to the Hub, what stays here, and what must not go unless someone says so."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import metadata_load
from huggingface_hub.utils import filter_repo_objects, get_token
from yaml import YAMLError

from ..base.folders import DEEPEST
from ..cards.corpora import read_configs


RepoType = Literal["model", "dataset", "space"]

# Weights by what reads them: a push of one kind leaves the other's in a repository.
TORCH_WEIGHTS = [
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
]
ONNX_WEIGHTS = ["onnx/*"]
# What a run leaves beside its result: checkpoints, logs, the trainer's state, unfinished and hidden files.
_LEFTOVERS = [
    "checkpoint-*/*",
    "runs/*",
    "events.out.tfevents*",
    "*/events.out.tfevents*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "step.json",
    "*/step.json",
    "__pycache__/*",
    "*/__pycache__/*",
    "*.tmp",
    ".*",
    "*/.*",
]
_OPTIMIZER_STATE = ["optimizer*", "*/optimizer*", "global_step*/*", "*_optim_states.pt"]
_SECRETS = [".env", ".env.*", ".netrc", ".npmrc", ".pypirc", ".git-credentials", "id_rsa*", "id_ecdsa*", "id_ed25519*"]
_SECRETS += [f"*/{name}" for name in _SECRETS] + ["*.pem", "*.key", "*.p12", "*.pfx"]
# How Hugging Face, AWS and GitHub write their tokens; the one that this process uses is searched for as well.
_SECRET_TEXT = [
    rb"\bhf_[A-Za-z0-9]{30,}\b",
    rb"\bAKIA[0-9A-Z]{16}\b",
    rb"\bgh[opsu]_[A-Za-z0-9]{36,}\b",
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
]
_OUTWARD = "a link out of the folder"


def folder_type(folder: Path) -> RepoType:
    """Tells the folder of a model, a corpus or a Space by its files.

    Raises:
        ValueError: if it is none of them, a model without its tokenizer, or its README.md is damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"`folder` must be an existing folder, got {str(folder)!r}. Check the path.")
    if "sdk" in card_metadata(folder / "README.md"):
        return "space"
    names = [path.name for path in folder.iterdir()]
    is_exported = (folder / "onnx").is_dir() and any((folder / "onnx").glob("*.onnx"))
    if "config.json" in names and (is_exported or any(filter_repo_objects(names, allow_patterns=TORCH_WEIGHTS))):
        if "tokenizer_config.json" not in names:
            raise ValueError(
                f"`folder` must hold the model's tokenizer, got {str(folder)!r} without tokenizer_config.json. "
                "Call `tokenizer.save_pretrained` on the folder."
            )
        return "model"
    if any(folder.glob("data/*.parquet")) or any(config.shards for config in read_configs(folder).values()):
        return "dataset"
    raise ValueError(
        "`folder` must hold a model (config.json and weights), a corpus (data/*.parquet, or folders with a "
        "manifest.json each) or a Space (README.md that names its `sdk`), "
        f"got {str(folder)!r} with {sorted(names)[:10]}. Give the output folder of a training run or a distillation."
    )


def card_metadata(path: Path) -> dict[str, Any]:
    """Reads the metadata of a card, `{}` where there are none.

    Raises:
        ValueError: if they are no YAML mapping, or the card is no text.
    """
    if not path.is_file():
        return {}
    try:
        return metadata_load(path) or {}
    except (ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`{path}` must be UTF-8, its metadata a YAML mapping: {reason}. Mend it.") from error


def choose_files(
    folder: Path,
    leave_out: Sequence[str] = (),
    allow: Sequence[str] = (),
    follow_links: bool = False,
    parameter: str = "folder",
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Parts the files of a folder into those that go and those that stay.

    Args:
        folder (`Path`): the folder.
        leave_out (`Sequence[str]`, *optional*): patterns of files that stay, beside what a run leaves behind.
        allow (`Sequence[str]`, *optional*): patterns of files that go whatever they look like.
        follow_links (`bool`, *optional*, defaults to `False`): take what lies behind links out of the folder, too.
        parameter (`str`, *optional*, defaults to `"folder"`): name of the option that gave the folder, for errors;
            those of other commands than `push` have no patterns.

    Returns:
        `tuple[dict[str, Path], dict[str, Path]]`: those that go and those that stay, by their paths in the folder.

    Raises:
        ValueError: if a file that neither pattern names looks like a secret, holds a token, or is an optimizer's state
            outside a run's checkpoints; or as `require_plain_files`.
    """
    require_plain_files(folder, leave_out, follow_links, parameter)
    files, left_out, refused = {}, {}, {}
    token = get_token()
    secret = re.compile(b"|".join([*_SECRET_TEXT, *([re.escape(token.encode())] if token else [])]))
    for path, fault in _entries(folder, follow_links):
        name = path.relative_to(folder).as_posix()
        if fault or _matches(name, leave_out):
            left_out[name] = path
        elif _matches(name, allow):
            files[name] = path
        elif _matches(name, _SECRETS):
            refused[name] = "a secret by its name"
        elif _matches(name, _LEFTOVERS):
            left_out[name] = path
        elif _matches(name, _OPTIMIZER_STATE):
            refused[name] = "an optimizer's state"
        elif _holds(path, secret):
            refused[name] = "a text with a token or a private key"
        else:
            files[name] = path
    if refused:
        listed = ", ".join(f"{name} ({reason})" for name, reason in refused.items())
        names = " ".join(refused)
        remedy = f"Leave them here with `--leave_out {names}`, or send them with `--allow {names}`."
        raise ValueError(
            f"`{parameter}` must hold no secret and no optimizer's state, got {str(folder)!r} with {listed}. "
            + (remedy if parameter == "folder" else "Take them away.")
        )
    return files, left_out


def require_plain_files(
    folder: Path, leave_out: Sequence[str] = (), follow_links: bool = False, parameter: str = "folder"
) -> None:
    """Raises ValueError if a folder holds links out of it, or what is neither file nor folder and no push can read.

    What stays here by `leave_out`, or as a run's leftover, may be anything. The links of a snapshot in the Hub's cache
    to the files of its repository there lead nowhere else.
    """
    stays = [*leave_out, *_LEFTOVERS]
    named = ((path.relative_to(folder).as_posix(), fault) for path, fault in _entries(folder, follow_links) if fault)
    faults = {name: fault for name, fault in named if not any(_matches(end, stays) for end in (name, f"{name}/"))}
    if not faults:
        return
    listed = ", ".join(f"{name} ({fault})" for name, fault in list(faults.items())[:10])
    remedy = "Take them away"
    if parameter == "folder":
        remedy += f", or leave them here with `--leave_out {' '.join(faults)}`"
        if set(faults.values()) == {_OUTWARD}:
            remedy += ", or send what lies behind them with `--follow_links`"
    raise ValueError(f"`{parameter}` must hold plain files, got {str(folder)!r} with {listed}. {remedy}.")


def _entries(folder: Path, follow_links: bool) -> Iterator[tuple[Path, str | None]]:
    """Yields all under a folder that is no folder itself, and what is wrong with it."""
    root = os.path.realpath(folder)
    repository = Path(root).parents[1] if Path(root).parent.name == "snapshots" else None
    inside = (root, *([os.path.join(repository, "blobs")] if repository else []))

    def walk(parent: Path, around: tuple[str, ...]) -> Iterator[tuple[Path, str | None]]:
        """Yields what is below a folder; `around` are the real paths of it and its parents, to notice a circle."""
        if len(around) > DEEPEST:
            raise ValueError(
                f"`folder` must hold folders at most {DEEPEST} deep in each other, got {str(folder)!r} with more."
            )
        for path in sorted(parent.iterdir()):
            target = os.path.realpath(path)
            is_outward = path.is_symlink() and not follow_links and not any(map(Path(target).is_relative_to, inside))
            if path.is_symlink() and not path.exists():
                yield path, "a link to nothing"
            elif is_outward:
                yield path, _OUTWARD
            elif path.is_dir() and target in around:
                yield path, "a link to a folder that holds it"
            elif path.is_dir():
                yield from walk(path, (*around, target))
            elif path.exists():  # Else a temporary file of another process, gone again.
                yield path, None if path.is_file() else "a pipe, socket or device"

    return walk(folder, (root,))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(filter_repo_objects([name], allow_patterns=list(patterns)))


def _holds(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Searches a text file; one with a null byte in its first 8 KB is none, as git has it."""
    with open(path, "rb") as file:
        if b"\0" in (start := file.read(8192)) or not start:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return pattern.search(text) is not None
