"""Push a model or corpus folder, card included, to the Hub in one commit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects, get_token, validate_repo_id
from transformers.utils import logging

from .cards import write_corpus_card, write_model_card


logger = logging.get_logger(__name__)

RepoType = Literal["model", "dataset"]

# What a run leaves beside its result: checkpoints, optimiser state, logs, unfinished and hidden files.
_LEFT_OUT = [
    "checkpoint-*/*",
    "runs/*",
    "events.out.tfevents*",
    "*/events.out.tfevents*",
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "global_step*/*",
    "__pycache__/*",
    "*/__pycache__/*",
    "*.tmp",
    ".*",
    "*/.*",
]
_WEIGHTS = [
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
]
_SHARDS = ["data/*.parquet"]
# Loaders take every such file of a repository, so those of an earlier push must not outlive it.
_REPLACED: dict[str, list[str]] = {"model": _WEIGHTS, "dataset": _SHARDS}


@dataclass
class PushArguments:
    """What goes to the Hub, and where."""

    folder: str = field(metadata={"help": "model folder (weights and tokenizer) or corpus folder (data/*.parquet)"})
    repo_id: str = field(metadata={"help": "owner/name on the Hub; the repository is created if it does not exist"})
    repo_type: Literal["model", "dataset"] | None = field(
        default=None, metadata={"help": "model or dataset; by default what the folder holds"}
    )
    private: bool = field(default=True, metadata={"help": "visibility of a repository that is created"})
    revision: str | None = field(default=None, metadata={"help": "branch, created if it does not exist"})
    commit_message: str | None = field(default=None, metadata={"help": "message of the commit"})
    dry_run: bool = field(default=False, metadata={"help": "write the card and list the files, send nothing"})


@dataclass(frozen=True)
class PushPlan:
    """The files of a push.

    Args:
        repo_id (`str`): where they go.
        repo_type (`str`): "model" or "dataset".
        files (`dict[str, int]`): path in the repository -> size in bytes.
        url (`str`, *optional*): address of the commit; None if nothing was sent.
    """

    repo_id: str
    repo_type: RepoType
    files: dict[str, int]
    url: str | None = None

    def summary(self) -> str:
        """Lists sizes and paths, the total last."""
        lines = [f"{size:>15,} bytes  {path}" for path, size in self.files.items()]
        target = f"{self.repo_type} repository {self.repo_id}"
        return "\n".join([*lines, f"{sum(self.files.values()):>15,} bytes  in {len(self.files)} files: {target}"])


def push(args: PushArguments) -> PushPlan:
    """Writes the folder's card and uploads the folder as one commit, or only lists the files (`dry_run`).

    Checkpoints, optimiser state, TensorBoard logs, temporary and hidden files stay here. Weights or shards of an
    earlier push that this folder no longer has are deleted in the same commit.

    Args:
        args (`PushArguments`): folder, repository and options.

    Returns:
        `PushPlan` with the files, and the address of the commit if there was one.

    Raises:
        ValueError: if the folder is neither a model nor a corpus, its type is not `repo_type`, it lacks a tokenizer
            or a card, or `repo_id` is malformed.
        PermissionError: if there is no token (checked before anything is sent), or the Hub refuses it.
    """
    folder = Path(args.folder)
    if args.repo_id.count("/") != 1:
        raise ValueError(f"`repo_id` must be owner/name, got {args.repo_id!r}. Put your user or organisation first.")
    validate_repo_id(args.repo_id)
    repo_type = _folder_type(folder)
    if args.repo_type not in (None, repo_type):
        raise ValueError(
            f"`repo_type` must be {repo_type!r} for {str(folder)!r}, got {args.repo_type!r}. Leave it out."
        )
    _write_card(folder, repo_type, args.repo_id)
    plan = PushPlan(args.repo_id, repo_type, _files(folder))
    return plan if args.dry_run else replace(plan, url=_upload(folder, plan, args))


def _folder_type(folder: Path) -> RepoType:
    """Tells a model folder from a corpus folder by its files."""
    if not folder.is_dir():
        raise ValueError(f"`folder` must be an existing folder, got {str(folder)!r}. Check the path.")
    names = [path.relative_to(folder).as_posix() for path in (*folder.iterdir(), *folder.glob("data/*.parquet"))]
    if "config.json" in names and any(filter_repo_objects(names, allow_patterns=_WEIGHTS)):
        if "tokenizer_config.json" not in names:
            raise ValueError(
                f"`folder` must hold the model's tokenizer, got {str(folder)!r} without tokenizer_config.json. "
                "Call `tokenizer.save_pretrained` on the folder."
            )
        return "model"
    if any(filter_repo_objects(names, allow_patterns=_SHARDS)):
        return "dataset"
    raise ValueError(
        "`folder` must hold a model (config.json and weights) or a corpus (data/*.parquet), "
        f"got {str(folder)!r} with {sorted(names)[:10]}. Give the output folder of a training run or a distillation."
    )


def _write_card(folder: Path, repo_type: RepoType, repo_id: str) -> None:
    """Brings the card up to date; a corpus that was not distilled here must bring its own."""
    if repo_type == "model":
        write_model_card(folder, repo_id)
    elif (folder / "manifest.json").is_file():
        write_corpus_card(folder, repo_id)
    elif not (folder / "README.md").is_file():
        raise ValueError(
            f"`folder` must hold a manifest.json or a README.md, got {str(folder)!r} with neither. "
            "Finish the distillation (the same command resumes it), or write a README.md."
        )


def _files(folder: Path) -> dict[str, int]:
    """Lists what would go, by path in the repository, with sizes in bytes."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return {path: sizes[path] for path in sorted(filter_repo_objects(sizes, ignore_patterns=_LEFT_OUT))}


def _upload(folder: Path, plan: PushPlan, args: PushArguments) -> str:
    """Sends the files of `plan` as one commit and returns its address."""
    if get_token() is None:
        raise PermissionError(
            f"A push to {plan.repo_id} needs a Hugging Face token with write access, got none. "
            "Run `hf auth login` or set HF_TOKEN."
        )
    api = HfApi()
    repo_id, repo_type = plan.repo_id, plan.repo_type
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=args.private, exist_ok=True)
        if args.revision is not None:
            api.create_branch(repo_id, branch=args.revision, repo_type=repo_type, exist_ok=True)
        there = api.list_repo_files(repo_id, revision=args.revision, repo_type=repo_type)
        stale = set(filter_repo_objects(there, allow_patterns=_REPLACED[repo_type])) - plan.files.keys()
        commit = api.create_commit(
            repo_id,
            operations=[
                *(CommitOperationDelete(path) for path in sorted(stale)),
                *(CommitOperationAdd(path, folder / path) for path in plan.files),
            ],
            commit_message=args.commit_message or f"Push {repo_type} with hf_nat",
            repo_type=repo_type,
            revision=args.revision,
        )
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise PermissionError(
            f"The Hub refused to write to {repo_id} (status {error.response.status_code}). "
            "Check that the token has write access and that the owner is you or your organisation."
        ) from error
    logger.info(f"{len(plan.files)} files are at {commit.commit_url}")
    return commit.commit_url
