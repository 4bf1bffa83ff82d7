"""The one place that loads configs, models and tokenizers made elsewhere: no foreign code, errors name the file."""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.dynamic_module_utils import get_relative_imports
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils import cached_file as find_in_cache

from ..base.folders import require_folder_name
from ..base.utils import read_record, sha256_file
from .locations import local_or_hub, may_be_hub_id


_WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZER_JSON = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_OF_LAYER = re.compile(r"\blayers\.\d+\.")
# Beyond these a number of a configuration is a slip, or meant to fill memory: no model is that deep, or reads so much.
_MOST_LAYERS, _MOST_POSITIONS, _LARGEST_SIZE = 1000, 2**17, 2**24
_SIZES = ("layers", "heads", "dim", "size", "model", "ff", "kv", "positions", "embeddings", "experts", "buckets")
_CODE_REMEDY = "Read it, and set `trust_remote_code` if you trust its authors; or use another model."


def load_pretrained_config(
    path: str | Path, *, parameter: str = "model", revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedConfig:
    """Loads the configuration of a model.

    Args:
        path (`str` or `Path`): folder of a checkpoint, or a Hub id.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): execute the Python files of the checkpoint, where
            its `config.json` names them and its architecture is not known here.

    Raises:
        OSError: if there is no such folder or repository, or it has no `config.json`.
        ValueError: if that is damaged, of an unknown architecture, asks for code that is not here, or its sizes are
            beyond those of the weights beside it.
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / CONFIG_NAME).exists():
        above = f" Give `{folder.parent}`." if (folder.parent / CONFIG_NAME).is_file() else ""
        raise FileNotFoundError(
            f"`{parameter}` must be the folder of a model, but there is no file `{folder / CONFIG_NAME}`.{above}"
        )
    with _named(path, parameter, CONFIG_NAME, (CONFIG_NAME,), _require_sizes, revision=revision):
        config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=trust_remote_code)
        # Names a kernel on the Hub, whose code transformers would load with the model.
        if "/" in str(getattr(config, "_attn_implementation", None)) and not trust_remote_code:
            raise ValueError(f"`attn_implementation` asks for code from the Hub. {_CODE_REMEDY}")
    return config


def load_pretrained_model(
    path: str | Path,
    *,
    parameter: str = "model",
    revision: str | None = None,
    dtype: str | torch.dtype | None = None,
    config: PreTrainedConfig | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Loads a seq2seq model whose weights are all there and finite.

    Weights come from safetensors, or from `pytorch_model.bin` where there are none, of which torch reads tensors only.

    Args:
        path (`str` or `Path`): folder of a checkpoint, or a Hub id.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        dtype (`str` or `torch.dtype`, *optional*): by default that of the saved weights.
        config (`PreTrainedConfig`, *optional*): configuration in place of the saved one, for the same weights.
        trust_remote_code (`bool`, *optional*, defaults to `False`): see `load_pretrained_config`.

    Raises:
        OSError: if there is no such folder or repository, or a file is missing.
        ValueError: if a file is damaged or of another model, a weight is missing or not finite, or the checkpoint asks
            for code that is not here.
    """
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    config = config or load_pretrained_config(path, parameter=parameter, **options)
    names = f"{_weights_file(path)}` by its `{CONFIG_NAME}"
    with _named(path, parameter, names, (GENERATION_CONFIG_NAME,), _check_weights_files, revision=revision):
        with _naming_shapes(Path(path), config):
            model, found = AutoModelForSeq2SeqLM.from_pretrained(
                path, config=config, dtype=dtype or "auto", output_loading_info=True, **options
            )
        _require_match(found)
        _require_finite(model)
    with _named(path, parameter, GENERATION_CONFIG_NAME):
        _check_generation_config(model)
    return model


def load_generation_config(model: PreTrainedModel, folder: Path, *, parameter: str = "model") -> None:
    """Gives a model without weights the saved settings of its `generate`.

    Args:
        model (`PreTrainedModel`): the model.
        folder (`Path`): folder of the settings.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the folder, for errors.

    Raises:
        OSError: if there are none.
        ValueError: if they are damaged, or no model like this has them.
    """
    with _named(folder, parameter, GENERATION_CONFIG_NAME, (GENERATION_CONFIG_NAME,)):
        model.generation_config = GenerationConfig.from_pretrained(folder)
        _check_generation_config(model)


def load_pretrained_tokenizer(
    path: str | Path, *, parameter: str = "model", revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Loads a tokenizer as it is, but right-padding; see `load_tokenizer`, which makes it ready for a NAT model.

    Args:
        path (`str` or `Path`): folder of a tokenizer or checkpoint, or a Hub id.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): see `load_pretrained_config`.

    Raises:
        OSError: if there is no such folder or repository, or a file is missing.
        ValueError: if a file is damaged or has no tokens, or the tokenizer asks for code that is not here.
    """
    files = (CONFIG_NAME, *_TOKENIZER_JSON)
    with _named(path, parameter, "tokenizer_config.json", files, _check_vocabulary_files, revision=revision):
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                path, padding_side="right", revision=revision or "main", trust_remote_code=trust_remote_code
            )
        except Exception as error:
            if os.path.isdir(path) and (missing := _missing_vocabulary(Path(path))):
                absent = " and no ".join(missing)
                raise FileNotFoundError(
                    f"`{parameter}` must hold the files of its tokenizer, but `{path}` has no {absent}."
                ) from error
            raise
        if tokenizer.init_kwargs.get("auto_map") and not trust_remote_code:
            # transformers would take a class of its own, which may cut texts otherwise.
            raise ValueError(f"its class is in Python files that came with it. {_CODE_REMEDY}")
        if not isinstance(tokenizer.model_max_length, int | float):
            raise ValueError(f"`model_max_length` must be a number, got {tokenizer.model_max_length!r}")
        if set(tokenizer.get_vocab().values()) <= {*tokenizer.all_special_ids}:
            raise ValueError("there are no tokens but special ones: the file of the vocabulary is missing")
    return tokenizer


def require_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parameter: str = "model", place: str | Path = ""
) -> None:
    """Raises ValueError unless a model has an embedding for every token that its tokenizer makes of a text.

    A mask and a BOS that `load_tokenizer` added do not count, and a model may have more embeddings than there are
    tokens.

    Args:
        model (`PreTrainedModel`): the model.
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer that it shall read with.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the model, for the error.
        place (`str` or `Path`, *optional*): where the model is, for the error.
    """
    added = {tokenizer.mask_token_id, tokenizer.bos_token_id}
    size = 1 + max(token_id for token_id in tokenizer.get_vocab().values() if token_id not in added)
    embedding: Any = model.get_input_embeddings()
    rows, eos = embedding.weight.shape[0], model.config.eos_token_id
    if size > rows or (isinstance(eos, int) and eos != tokenizer.eos_token_id):
        raise ValueError(
            f"`{parameter}` must have the vocabulary of its tokenizer, which has {size} tokens, EOS "
            f"{tokenizer.eos_token_id}, but `{place or model.name_or_path}` has {rows} embeddings, EOS {eos}. Use the "
            "tokenizer that the model was trained with."
        )


def hub_commit(path: str | Path, revision: str | None = None) -> str | None:
    """Returns the commit that something was loaded from on the Hub, None where it was a folder.

    transformers does not say it any more; the Hub's cache names the folders of its files by it.

    Args:
        path (`str` or `Path`): a folder, or a Hub id whose files were loaded before.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
    """
    snapshot = _snapshot(path, revision)
    return None if snapshot is None else snapshot.name


def remote_code(path: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Says which Python files came with a model: their SHA-256 in a folder, or the commit on the Hub.

    Args:
        path (`str` or `Path`): where it was loaded from.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
    """
    if not os.path.isdir(path):
        return {"commit": hub_commit(path, revision)}
    return {file.name: sha256_file(file) for file in sorted(Path(path).glob("*.py"))}


def code_files(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """Says which Python files of its folder a model needs, whether they are there or not.

    Args:
        folder (`Path`): the model's folder.
        config (`Mapping[str, Any]`): the contents of its `config.json`, whose `auto_map` names the first ones.
    """
    auto_map = config.get("auto_map")
    names = auto_map.values() if isinstance(auto_map, dict) else ()
    # With "--" they are of another repository.
    waiting = [name.split(".")[0] for name in names if isinstance(name, str) and "--" not in name]
    files: set[str] = set()
    while waiting:
        file = f"{waiting.pop()}.py"
        if file not in files:
            files.add(file)
            with suppress(FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
                waiting += get_relative_imports(folder / file)
    return files


@contextmanager
def _named(
    path: str | Path,
    parameter: str,
    name: str,
    json_files: tuple[str, ...] = (),
    check: Callable[[Path], object] | None = None,
    *,
    revision: str | None = None,
) -> Iterator[None]:
    """Guards the lines that load something: damaged files are named, and an error is one of input, on one line.

    Whatever transformers raises there is the file's fault: it checks little and fails anywhere.

    Args:
        path (`str` or `Path`): folder or Hub id.
        parameter (`str`): name of the option.
        name (`str`): the file that is at fault where no other is found to be damaged.
        json_files (`tuple[str, ...]`, *optional*): files that must hold a JSON object, where they are.
        check (`Callable`, *optional*): looks at further files of a folder.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
    """

    def look(folder: Path) -> None:
        for file in json_files:
            _read_object(folder / file)
        if check is not None:
            check(folder)

    with local_or_hub(path, parameter):
        try:
            str(path).encode()
        except UnicodeEncodeError:  # Libraries written in Rust cannot open it.
            raise ValueError(f"`{parameter}` must be Unicode text, got {str(path)!r}. Rename the folder.") from None
        if os.path.exists(path):
            if not os.path.isdir(path):
                raise NotADirectoryError(f"`{parameter}` must be a folder or a Hub id, but `{path}` is a file.")
            if revision not in (None, "main"):
                raise ValueError(
                    f"A revision must be left out for a folder, got {revision!r} for the `{parameter}` `{path}`. It "
                    "is a branch, tag or commit on the Hub."
                )
            look(Path(path))
        try:
            yield
            if folder := _snapshot(path, revision):
                look(folder)
        except OSError:
            raise
        except (Exception, SystemExit) as error:  # Code that a checkpoint brings, where it is trusted, may end all.
            raise ValueError(f"`{parameter}` cannot be loaded from `{Path(path) / name}`: {_reason(error)}") from error


def _snapshot(path: str | Path, revision: str | None) -> Path | None:
    """Returns the folder in the Hub's cache of what was loaded from there, None of what lies elsewhere."""
    if not may_be_hub_id(path) or os.path.exists(path):
        return None
    quiet = dict.fromkeys(("missing_entries", "connection_errors", "gated_repo"), False)
    options = {f"_raise_exceptions_for_{name}": value for name, value in quiet.items()}
    for name in (CONFIG_NAME, "tokenizer_config.json"):
        if file := find_in_cache(path, name, revision=revision, local_files_only=True, **options):
            return Path(file).parent
    return None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "custom code" in text or "trust_remote_code" in text:
        return f"it asks to execute Python files that came with it. {_CODE_REMEDY}"
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return textwrap.shorten(kind + text, 300, placeholder=" ...").rstrip(".") + "."


def _read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object, `{}` where there is no such file."""
    if not os.path.lexists(path):
        return {}
    return read_record(path)


def _weights_file(path: str | Path) -> str:
    """Returns the file that transformers reads the weights from, or begins with."""
    return next((name for name in _WEIGHTS if (Path(path) / name).exists()), SAFE_WEIGHTS_NAME)


def require_possible(
    sizes: Mapping[str, Any],
    place: str = "a configuration",
    most_layers: int = _MOST_LAYERS,
    largest: int = _LARGEST_SIZE,
) -> None:
    """Raises for a number of a configuration that no model has, before one is built: that would take all memory.

    Args:
        sizes (`Mapping[str, Any]`): the configuration, as its `config.json` holds it.
        place (`str`, *optional*): where it is, for the error.
        most_layers (`int`, *optional*): of layers.
        largest (`int`, *optional*): of every other size.

    Raises:
        ValueError: naming the key, the bound and the value.
    """
    for name, value in sizes.items():
        if isinstance(value, Mapping):
            require_possible(value, place, most_layers, largest)
        if not isinstance(value, int) or not name.endswith(_SIZES):
            continue
        if name.endswith("heads") and value < 1:
            raise ValueError(f"`{name}` must be >= 1 in {place}, got {value}.")
        limit = most_layers if name.endswith("layers") else _MOST_POSITIONS if "position" in name else largest
        if value > limit:
            raise ValueError(f"`{name}` must be <= {limit} in {place}, got {value}: no model is so large.")


def _require_sizes(folder: Path) -> None:
    """Raises if the configuration of a folder is beyond its weights: each layer has one, each size is a dimension."""
    sizes, most_layers, largest = _read_object(folder / CONFIG_NAME), _MOST_LAYERS, _LARGEST_SIZE
    if (folder / _weights_file(folder)).is_file():
        shapes = [shape for file in _check_weights_files(folder) for shape in _shapes(file)]
        if shapes:
            most_layers = len(shapes)
            # A size may also be of what is not saved, such as positions that are computed.
            largest = max(_MOST_POSITIONS, *(size for shape in shapes for size in shape))
    require_possible(sizes, f"`{folder / CONFIG_NAME}` with its weights", most_layers, largest)


def _shapes(file: Path) -> list[list[int]]:
    """The shapes of the weights in a safetensors file, by its header alone; none of another kind of file."""
    if file.suffix != ".safetensors":
        return []
    with safe_open(file, "pt") as saved:
        return [saved.get_slice(name).get_shape() for name in saved.keys()]  # noqa: SIM118 - it cannot be iterated


def _check_weights_files(folder: Path) -> list[Path]:
    """Returns the files of the weights; raises unless they are there and their headers agree with their sizes."""
    file = folder / _weights_file(folder)
    if not file.is_file():
        hint = ""
        if (folder / "onnx").is_dir():
            hint = " It is an exported model, which translates with `backend: onnx`; else give what it was made of."
        raise FileNotFoundError(f"A checkpoint must hold its weights, but there is no file `{file}`.{hint}")
    files = [file]
    if file.name.endswith(".index.json"):
        shards = _read_object(file).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise ValueError(f"`{file}` must hold a `weight_map` from weights to files.")
        names = sorted(set(shards.values()))
        for shard in names:
            require_folder_name(f"Names in the `weight_map` of `{file}`", shard)
        files = [folder / shard for shard in names]
    for shard in files:
        if not shard.is_file():
            raise FileNotFoundError(f"`{file}` names weights in `{shard}`, but there is no such file.")
        if shard.suffix != ".safetensors":
            continue
        try:
            with safe_open(shard, "pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"`{shard}` must be whole weights in safetensors, but it is damaged: {error}.") from error
    return files


def _check_vocabulary_files(folder: Path) -> None:
    """Raises unless the files of a vocabulary are what their names say."""
    file = folder / "tokenizer.json"
    if os.path.lexists(file):
        _read_object(file)
        try:
            Tokenizer.from_file(str(file))
        except Exception as error:  # The library raises nothing narrower.
            raise ValueError(f"`{file}` must be a tokenizer of the library `tokenizers`: {_reason(error)}") from error
    for file in sorted([*folder.glob("*.spm"), *folder.glob("*.model")]):
        if not file.is_file():
            raise ValueError(f"`{file}` must be a SentencePiece model, got a folder.")
        try:
            from sentencepiece import SentencePieceProcessor

            SentencePieceProcessor().LoadFromSerializedProto(file.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"`{file}` must be a whole SentencePiece model, but it is damaged.") from error


def _missing_vocabulary(folder: Path) -> list[str]:
    """Returns which files a tokenizer of the class that its folder names can have, but does not."""
    tokenizer_class = _read_object(folder / "tokenizer_config.json").get("tokenizer_class")
    files: dict[str, str] = getattr(getattr(transformers, str(tokenizer_class), None), "vocab_files_names", {})
    names = {"tokenizer.json", *files.values()} if not (folder / "tokenizer.json").exists() else set(files.values())
    return sorted(name for name in names if not (folder / name).exists())


@contextmanager
def _naming_shapes(folder: Path, config: PreTrainedConfig) -> Iterator[None]:
    """Says in one line which weight has another shape, where transformers logs a table and raises without a name."""
    logger = logging.getLogger("transformers.modeling_utils")

    # Not by its level, from which transformers takes it that somebody wants to know of sharded layers.
    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(is_error)
    try:
        yield
    except RuntimeError as error:
        file = folder / SAFE_WEIGHTS_NAME
        if "ignore_mismatched_sizes" not in str(error) or not file.is_file():
            raise
        with torch.device("meta"):
            wanted = AutoModelForSeq2SeqLM.from_config(config).state_dict()
        with safe_open(file, "pt") as saved:
            shapes = {name: saved.get_slice(name).get_shape() for name in sorted(saved.keys()) if name in wanted}
        for name, shape in shapes.items():
            if shape != list(wanted[name].shape):
                raise ValueError(
                    f"the weight `{name}` has the shape {shape}, but a model like this {list(wanted[name].shape)}"
                ) from error
        raise
    finally:
        logger.removeFilter(is_error)


def _require_match(found: dict[str, Any]) -> None:
    """Raises unless the weights are those of the configuration; what transformers found is its `loading_info`."""
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"there is no weight `{missing[0]}` (of {len(missing)} missing ones)")
    # Other weights may be there: masks, positions, heads for another task.
    if layers := [name for name in sorted(found["unexpected_keys"]) if _OF_LAYER.search(name)]:
        raise ValueError(f"the weight `{layers[0]}` is of a layer that a model like this does not have")


@torch.no_grad()
def _require_finite(model: PreTrainedModel) -> None:
    """Raises if a weight is NaN or infinite; a bias of minus infinity that forbids a token is a buffer."""
    for name, tensor in model.named_parameters():
        # One pass without a second tensor: NaN wins either way.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ValueError(f"its weights must be finite, got NaN or infinity in `{name}`")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            raise ValueError(f"its weights must be finite, got NaN in `{name}`")


def _check_generation_config(model: PreTrainedModel) -> None:
    """Raises if a knob of the model has a value of another type, or a token is none of the vocabulary."""
    settings: Any = model.generation_config
    defaults = {"num_beams": 1, "max_length": 1, "length_penalty": 1.0} | getattr(model, "generation_defaults", {})
    for name, default in defaults.items():
        value = getattr(settings, name, None)
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if value is not None and default is not None and type(value) not in kinds:
            raise ValueError(f"`{name}` must be of the type {kinds[-1].__name__}, got {value!r}")
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    tokens = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "pad_token_id", "eos_token_id")
    for name in tokens:
        value = getattr(settings, name, None)
        if value is not None and not isinstance(value, list) and not (isinstance(value, int) and 0 <= value < rows):
            raise ValueError(f"`{name}` must be a token below {rows}, got {value!r}")
