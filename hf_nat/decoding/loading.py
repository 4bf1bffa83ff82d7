"""Checkpoints, ready to translate: model, tokenizer, languages, expert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_choice
from ..base.processes import process_state
from ..data.locations import local_folder
from ..data.pretrained import load_pretrained_model, require_vocabulary
from ..data.tokenizer import load_tokenizer
from .exported import EXPORTED_FILES, load_exported
from .sessions import BACKENDS
from .sources import encode_sources


def load_model(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    parameter: str = "model",
    trust_remote_code: bool = False,
    backend: str = "torch",
    quantize: str | None = None,
    threads: int | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a seq2seq model, a NAT model or any other of transformers, and its tokenizer, ready to translate.

    Args:
        path (`str` or `Path`): folder of a checkpoint, or a Hub id; an exported model for the other backends.
        device (`str` or `torch.device`, *optional*): by default this process's accelerator, or the CPU.
        dtype (`str` or `torch.dtype`, *optional*): by default that of the saved weights.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.
        trust_remote_code (`bool`, *optional*, defaults to `False`): execute Python files that came with the model.
        backend (`str`, *optional*, defaults to `"torch"`): what decodes: `"torch"`, or `"onnx"` (ONNX Runtime) or
            `"openvino"` for what `hf-nat export` made of a model, on the CPU.
        quantize (`str`, *optional*): `"int8"` for the exported graph with weights in 8 bits.
        threads (`int`, *optional*): threads of one call, by default torch's setting, which this changes for torch.

    Returns:
        `tuple[PreTrainedModel, PreTrainedTokenizerBase]`: the model in eval mode, and the tokenizer.

    Raises:
        ImportError: if the library of the backend is not installed.
        OSError: if there is no such model, or a file of it is missing.
        ValueError: if a file is damaged, a weight is not finite, the model asks for code that is not here, or its
            tokenizer has tokens that it does not know.
    """
    options: dict[str, Any] = {
        "revision": revision,
        "parameter": parameter,
        "trust_remote_code": trust_remote_code,
    }
    require_choice("backend", backend, BACKENDS)
    if backend != "torch":
        folder = local_folder(path, parameter=parameter, revision=revision, patterns=EXPORTED_FILES)
        exported = load_exported(folder, backend=backend, quantize=quantize, threads=threads, parameter=parameter)
        return exported, load_tokenizer(folder, **{**options, "revision": None})
    if quantize is not None:
        raise ValueError(f"`quantize` must be left out for `backend: torch`, got {quantize!r}. Use `backend: onnx`.")
    if threads is not None:
        torch.set_num_threads(threads)
    model: Any = load_pretrained_model(path, dtype=dtype, **options)
    tokenizer = load_tokenizer(path, **options)
    require_vocabulary(model, tokenizer, parameter, path)
    return model.to(device or process_state().device).eval(), tokenizer


def set_languages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> None:
    """Tells a multilingual model (mBART, mBART-50, M2M-100, NLLB) from which language into which it translates.

    Args:
        model (`PreTrainedModel`): its generation config gets the target language, as the decoder's start token where
            that is a language, else as the token that is put first.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer gets the source language.
        source_lang (`str`, *optional*): code of the source language as the tokenizer spells it (`eng_Latn`, `en_XX`).
        target_lang (`str`, *optional*): code of the target language.

    Raises:
        ValueError: if the tokenizer knows no languages, or not these.
    """
    if source_lang is not None:
        _language_id(tokenizer, source_lang)
        tokenizer.src_lang = source_lang
    if target_lang is not None:
        token_id = _language_id(tokenizer, target_lang)
        key = "decoder_start_token_id" if _starts_in_language(model, tokenizer) else "forced_bos_token_id"
        setattr(model.generation_config, key, token_id)


def require_target_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parameter: str) -> None:
    """Raises ValueError if a multilingual model has no target language, told or by its own generation config.

    Args:
        model (`PreTrainedModel`): a model, multilingual or not.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        parameter (`str`): name of the option that gave the model, for errors.
    """
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    if hasattr(tokenizer, "src_lang") and forced is None and not _starts_in_language(model, tokenizer):
        raise ValueError(
            f"`{parameter}` must be told its languages where it has several, as this {type(tokenizer).__name__}, got "
            "none. See the options that end in `lang` and `languages`."
        )


def _starts_in_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tells whether a multilingual model's decoder starts with a language, as mBART's, not with EOS."""
    start = cast(Any, model.generation_config).decoder_start_token_id
    start = model.config.decoder_start_token_id if start is None else start
    return start not in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _language_id(tokenizer: PreTrainedTokenizerBase, lang: str) -> int:
    """The token id of a language code."""
    if not hasattr(tokenizer, "src_lang"):
        raise ValueError(f"Languages must be left out for a {type(tokenizer).__name__}, which has none, got {lang!r}.")
    try:
        token_id = cast(Any, getattr(tokenizer, "get_lang_id", tokenizer.convert_tokens_to_ids))(lang)
    except KeyError:
        token_id = tokenizer.unk_token_id
    if token_id == tokenizer.unk_token_id:
        codes = getattr(tokenizer, "lang_code_to_id", None) or tokenizer.extra_special_tokens
        raise ValueError(
            f"A language must be one that the model's tokenizer has, {_listed(sorted(map(str, codes)))}, got {lang!r}."
        )
    return token_id


def language_pair(parameter: str, text: str) -> tuple[str, str]:
    """Returns the codes of SRC:TGT.

    Args:
        parameter (`str`): name of the option that gave it, for errors.
        text (`str`): both codes as the tokenizer spells them.

    Raises:
        ValueError: if it is not two codes.
    """
    source, _, target = text.partition(":")
    if not (source and target) or ":" in target:
        raise ValueError(f"`{parameter}` must be SRC:TGT, as eng_Latn:deu_Latn, got {text!r}.")
    return source, target


def check_source_prefix(tokenizer: PreTrainedTokenizerBase, source_prefix: str | None) -> None:
    """Raises unless a tokenizer knows every piece of a prefix, and a multilingual Marian model is told its target.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer.
        source_prefix (`str`, *optional*): text put before every source.

    Raises:
        ValueError: naming the languages that the tokenizer knows, where it lists them.
    """
    codes: list[str] = sorted(getattr(tokenizer, "supported_language_codes", None) or ())
    if codes and not (source_prefix or "").strip().startswith(tuple(codes)):
        raise ValueError(
            f"`source_prefix` must begin with the target language of this multilingual model, {_listed(codes)}, got "
            f"{source_prefix!r}. Write for example `source_prefix: '{codes[0]} '`."
        )
    if source_prefix and tokenizer.unk_token_id in encode_sources(tokenizer, [source_prefix])[0]:
        raise ValueError(
            f"`source_prefix` must be text that the model's tokenizer knows, got {source_prefix!r}, of which it makes "
            f"{tokenizer.unk_token}. See the model's card."
        )


def _listed(codes: Sequence[str]) -> str:
    """The first of some codes, and how many there are."""
    shown = ", ".join(codes[:30])
    return f"one of {shown}" + (f" and {len(codes) - 30} more" if len(codes) > 30 else "")


def decoding_expert(model: PreTrainedModel, expert: int | None = None) -> int | None:
    """Returns the expert of a mixture that decodes: the one asked for, else that of its generation config.

    Args:
        model (`PreTrainedModel`): a seq2seq model.
        expert (`int`, *optional*): the expert asked for.

    Returns:
        `int`, or `None` of a model without experts, and where the start token of its generation config decides.

    Raises:
        ValueError: if an expert is asked of a model that has no such, or none at all.
    """
    if expert is None:
        return getattr(model.generation_config, "expert", None)
    if not hasattr(model, "expert_token_id"):
        raise ValueError(f"`expert` must be left out for a model without experts, got {expert}.")
    cast(Any, model).expert_token_id(expert)
    return expert
