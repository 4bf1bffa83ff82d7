"""Push the folder of a model, corpus or Space to the Hub in one commit, or put corpora together in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects, get_token, validate_repo_id
from transformers.utils import logging

from ..base.config import option, refuse_changed
from ..cards import model_card
from ..cards.corpora import (
    CARD_SOURCES,
    DEFAULT_CONFIG,
    check_config_name,
    files_of_config,
    merge_corpus_cards,
    place_in_config,
    read_config,
    read_configs,
)
from ..cards.rendering import is_unedited, making_card, read_card, read_optional
from ..data.pretrained import code_files
from .contents import (
    ONNX_WEIGHTS,
    TORCH_WEIGHTS,
    RepoType,
    card_metadata,
    choose_files,
    folder_type,
    require_plain_files,
)
from .retries import with_retries
from .spaces import is_evaluate_module, is_own_module, write_evaluate_space
from .targets import FolderTarget, HubTarget, Target, check_local_dir, check_ref


logger = logging.get_logger(__name__)

_CARD = "README.md"


@dataclass
class PushArguments:
    """What goes to the Hub, and where.

    Raises:
        ValueError: if there is not exactly one destination, a name (`repo_id`, `revision`, `tag`, `config_name`) is
            malformed, or an option of the Hub comes with a folder.
    """

    folder: str = field(
        metadata={
            "help": "folder of a model (weights and tokenizer), corpus (data/*.parquet), Space or `evaluate` module"
        }
    )
    repo_id: str | None = option(None, "owner/name on the Hub; the repository is created if it does not exist")
    local_dir: str | None = option(None, "instead of the Hub: folder in which corpora are put together")
    repo_type: RepoType | None = option(None, "by default what the folder holds")
    config_name: str | None = option(None, "corpus: configuration that it becomes, beside others of the repository")
    private: bool = option(True, "visibility of a repository that is created")
    revision: str | None = option(None, "branch, created if it does not exist")
    tag: str | None = option(None, "tag that the commit gets")
    commit_message: str | None = option(None, "message of the commit")
    leave_out: list[str] = field(
        default_factory=list, metadata={"help": "patterns of more files that stay here", "action": "extend"}
    )
    allow: list[str] = field(
        default_factory=list,
        metadata={
            "help": "patterns of files that go although they look like secrets or leftovers",
            "action": "extend",
        },
    )
    follow_links: bool = option(False, "send what lies behind links that lead out of the folder, too")
    dry_run: bool = option(False, "list the files, send nothing")
    trust_remote_code: bool = option(False, "execute an `evaluate` module that is not of this package, for its card")

    def __post_init__(self) -> None:
        if (self.repo_id is None) == (self.local_dir is None):
            raise ValueError(
                f"Give `repo_id` or `local_dir`, one of them, got {self.repo_id!r} and {self.local_dir!r}."
            )
        if self.repo_id is not None:
            if self.repo_id.count("/") != 1:
                raise ValueError(
                    f"`repo_id` must be owner/name, got {self.repo_id!r}. Put your user or organisation first."
                )
            if not self.repo_id.isascii():
                raise ValueError(
                    f"`repo_id` must be of ASCII letters, digits, '-', '_' and '.', got {self.repo_id!r}."
                )
            validate_repo_id(self.repo_id)
            for name in ("revision", "tag"):
                check_ref(name, getattr(self, name))
        elif self.revision is not None or self.tag is not None:
            raise ValueError("`revision` and `tag` are for the Hub. Leave them out with `local_dir`.")
        else:
            refuse_changed(self, ("private", "commit_message"), "with `local_dir`", "They are for the Hub.")
        if self.config_name is not None:
            check_config_name(self.config_name)


@dataclass(frozen=True)
class PushPlan:
    """The files of a push.

    Args:
        destination (`str`): where they go: owner/name, or a folder.
        repo_type (`str`): "model", "dataset" or "space".
        files (`dict[str, int]`): path there -> size in bytes; a card that is merged with that of a repository may be
            longer in the end.
        left_out (`dict[str, int]`): path in the folder -> size in bytes, of what stays here.
        replaced (`list[str]`): patterns of what is deleted there where it is not among the files, or left out here.
        url (`str`, *optional*): address of the commit, or the folder; None if nothing was written.
    """

    destination: str
    repo_type: RepoType
    files: dict[str, int]
    left_out: dict[str, int]
    replaced: list[str] = field(default_factory=list)
    url: str | None = None

    def summary(self) -> str:
        """Lists sizes and paths, what stays here, and the total last."""
        lines = [f"{size:>15,} bytes  {path}" for path, size in self.files.items()]
        if self.left_out:
            tops = dict.fromkeys(path.split("/")[0] + "/" * ("/" in path) for path in self.left_out)
            lines.append(f"{sum(self.left_out.values()):>15,} bytes  stay here: {', '.join(tops)}")
        if self.replaced:
            lines.append(f"{'':>15}  of an earlier push, deleted there unless above: {', '.join(self.replaced)}")
        total = f"{sum(self.files.values()):>15,} bytes  in {len(self.files)} files"
        return "\n".join([*lines, f"{total}: {self.repo_type} repository {self.destination}"])


@dataclass(frozen=True)
class _Upload:
    """What goes, by path in the repository, which files there give way to it, and which do not: those left out here.

    `make_card` makes the README.md, from the small files that the repository has; without it `files` holds it.
    """

    files: dict[str, Path]
    replaced: list[str]
    left_out: frozenset[str] = frozenset()
    make_card: Callable[[Path], str] | None = None

    def additions(self, target: Target | None) -> dict[str, Path | bytes]:
        """Returns the contents for a target; without one, for an empty repository."""
        if self.make_card is None:
            return dict(self.files)
        with TemporaryDirectory() as there:
            if target is not None:
                target.fetch([_CARD, *CARD_SOURCES, *(f"*/{name}" for name in CARD_SOURCES)], Path(there))
            return {_CARD: self.make_card(Path(there)).encode(), **self.files}


def push(args: PushArguments) -> PushPlan:
    """Uploads a folder with its card as one commit, or only lists the files (`dry_run`); nothing is written here.

    The folder of an `evaluate` module becomes a Space: card, page, and the package that it needs.

    Checkpoints, TensorBoard logs, temporary and hidden files stay here. Weights (of the same kind, torch or ONNX) or
    shards of an earlier push that this folder no longer has are deleted in the same commit. A corpus becomes one
    configuration of its repository (`config_name`): the others stay, and the card, made from the manifests of all,
    lists them. `local_dir` does the same to a folder, which `load_dataset` reads and which can be pushed later.

    An attempt that is cut short is made again, and by the same command later: what has arrived is not sent twice, and
    a commit on top of somebody else's is made from what is there then.

    Args:
        args (`PushArguments`): folder, destination and options.

    Returns:
        `PushPlan` with the files, and the address of the commit if there was one.

    Raises:
        ValueError: if the folder is neither a model nor a corpus nor a Space, its type is not `repo_type`, it lacks a
            tokenizer, its code or a card, or it holds secrets, an optimizer's state or links out of it, or if
            `local_dir` holds something else than corpora.
        PermissionError: if there is no token (checked before anything is sent), or the Hub refuses it.
        ConnectionError: if the Hub did not take the push in several attempts.
    """
    folder = Path(args.folder)
    if is_evaluate_module(folder) and args.repo_id is not None:
        if not args.trust_remote_code and not is_own_module(folder):
            raise ValueError(
                f"`trust_remote_code` must be true for {str(folder)!r}, got false: its card is made by executing "
                f"{folder.name}.py. Read that file first."
            )
        require_plain_files(folder, args.leave_out, args.follow_links)
        with TemporaryDirectory() as space:
            write_evaluate_space(folder, Path(space), args.repo_id)
            return push(replace(args, folder=space, trust_remote_code=False))
    where = "for what does not become the Space of an `evaluate` module"
    refuse_changed(args, ("trust_remote_code",), where, "Nothing of it is executed.")
    repo_type = folder_type(folder)
    if args.repo_type not in (None, repo_type):
        raise ValueError(
            f"`repo_type` must be {repo_type!r} for {str(folder)!r}, got {args.repo_type!r}. Leave it out."
        )
    if repo_type != "dataset" and (args.config_name is not None or args.local_dir is not None):
        raise ValueError(f"`config_name` and `local_dir` are for corpora, got the {repo_type} {str(folder)!r}.")
    if args.local_dir is not None:
        check_local_dir(Path(args.local_dir), folder)
    files, left_out = choose_files(folder, args.leave_out, args.allow, args.follow_links)
    if repo_type == "dataset":
        upload = _corpus_upload(folder, files, left_out, args)
    elif repo_type == "model":
        upload = _model_upload(folder, files, left_out, args)
    else:
        upload = _Upload(files, [])
    plan = PushPlan(
        destination=args.repo_id or str(args.local_dir),
        repo_type=repo_type,
        files={path: _size(content) for path, content in sorted(upload.additions(None).items())},
        left_out=_sizes(left_out),
        replaced=upload.replaced,
    )
    if args.dry_run:
        return plan
    if args.local_dir is not None:
        return replace(plan, url=_write(FolderTarget(Path(args.local_dir)), upload, args))
    return replace(plan, url=_push_to_hub(upload, plan, args))


def _model_upload(folder: Path, files: dict[str, Path], left_out: Mapping[str, Path], args: PushArguments) -> _Upload:
    """Adds the card that loads the model from where it goes; the one of the folder stays as it is."""
    if missing := sorted(code_files(folder, read_optional(folder, "config.json") or {}) - files.keys()):
        raise ValueError(
            f"A model must go with the code that its config.json names, got {str(folder)!r} without "
            f"{', '.join(missing)}. Leave none out; if it is not there, `save_pretrained` of the model writes it."
        )
    kinds = (TORCH_WEIGHTS, ONNX_WEIGHTS)
    present = [kind for kind in kinds if any(filter_repo_objects(files, allow_patterns=kind))]
    replaced, stays = [pattern for kind in present for pattern in kind], frozenset(left_out)
    if _CARD in left_out:
        return _Upload(files, replaced, stays)
    card = model_card(folder, args.repo_id)
    others = {path: file for path, file in files.items() if path != _CARD}
    return _Upload(others, replaced, stays, make_card=lambda there: card)


def _corpus_upload(folder: Path, files: dict[str, Path], left_out: Mapping[str, Path], args: PushArguments) -> _Upload:
    """Makes a corpus one or several configurations of a repository."""
    card = files.pop(_CARD, None)
    ours = read_card(card) if card else None
    if args.config_name is None:
        configs = read_configs(folder)
    elif any(config != DEFAULT_CONFIG for config in read_configs(folder)):
        raise ValueError(
            f"`config_name` is for a folder with one corpus, got {args.config_name!r} for {str(folder)!r} with "
            f"{sorted(read_configs(folder))}. Leave it out: they keep their names."
        )
    else:
        configs = {args.config_name: read_config(folder, args.config_name)}
        files = {place_in_config(path, args.config_name): file for path, file in files.items()}
        if card and ours and not is_unedited(ours):
            files[place_in_config(_CARD, args.config_name)] = card
            ours = None
    if not configs and ours is None:
        raise ValueError(
            f"`folder` must hold a manifest.json or a README.md, got {str(folder)!r} with neither. "
            "Finish the distillation (the same command resumes it), or write a README.md."
        )
    for config in configs.values():
        if missing := config.missing_shards():
            raise ValueError(
                f"`folder` must hold every shard of its manifest, got {str(folder)!r} without {', '.join(missing)} "
                f"(configuration {config.name}). Run the distillation again: it makes what is missing."
            )

    def make_card(there: Path) -> str:
        with making_card(folder):
            return merge_corpus_cards(configs, there, ours, example)

    example = args.repo_id or f"./{Path(str(args.local_dir)).resolve().name}"
    return _Upload(
        files=files,
        replaced=[pattern for name in configs or [DEFAULT_CONFIG] for pattern in files_of_config(name)],
        left_out=frozenset(place_in_config(path, args.config_name or DEFAULT_CONFIG) for path in left_out),
        make_card=make_card,
    )


def _write(target: Target, upload: _Upload, args: PushArguments) -> str:
    """Writes to a target what it lacks and deletes what gives way; returns where it is."""
    additions = upload.additions(target)
    stale = {*filter_repo_objects(target.paths(), allow_patterns=upload.replaced)} - additions.keys() - upload.left_out
    return target.write(additions, sorted(stale), args.commit_message or "Push with hf_nat")


def _push_to_hub(upload: _Upload, plan: PushPlan, args: PushArguments) -> str:
    """Sends an upload of a folder as one commit and returns its address."""
    repo_id = plan.destination
    if get_token() is None:
        raise PermissionError(
            f"A push to {repo_id} needs a Hugging Face token with write access, got none. "
            "Run `hf auth login` or set HF_TOKEN."
        )
    sdk = card_metadata(Path(args.folder) / _CARD).get("sdk") if plan.repo_type == "space" else None

    def attempt() -> str:
        target = HubTarget.open(
            repo_id, plan.repo_type, private=args.private, revision=args.revision, tag=args.tag, space_sdk=sdk
        )
        return _write(target, upload, args)

    try:
        url = with_retries(attempt, f"The push to {repo_id}")
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise PermissionError(
            f"The Hub refused to write to {repo_id} (status {error.response.status_code}). "
            "Check that the token has write access and that the owner is you or your organisation."
        ) from error
    logger.info(f"{len(plan.files)} files are at {url}")
    return url


def _sizes(files: Mapping[str, Path]) -> dict[str, int]:
    """The sizes of files that nobody needs: one of another process may have gone meanwhile."""
    sizes = {}
    for path, file in files.items():
        with suppress(FileNotFoundError):
            sizes[path] = file.lstat().st_size
    return sizes


def _size(content: Path | bytes) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)
