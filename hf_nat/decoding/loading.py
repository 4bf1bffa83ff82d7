"""Checkpoints, ready to translate: model, tokenizer, languages, expert."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from ..data.tokenizer import load_tokenizer
from ..processes import process_state


def load_model(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a seq2seq model, a NAT model or any other of transformers, and its tokenizer, ready to translate.

    Args:
        path (`str` or `Path`): folder of a checkpoint, or a Hub id.
        device (`str` or `torch.device`, *optional*): by default this process's accelerator, or the CPU.
        dtype (`str` or `torch.dtype`, *optional*): by default that of the saved weights.
        revision (`str`, *optional*): branch, tag or commit on the Hub.

    Returns:
        `tuple[PreTrainedModel, PreTrainedTokenizerBase]`: the model in eval mode, and the tokenizer.
    """
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=dtype or "auto", revision=revision or "main")
    return model.to(device or process_state().device).eval(), load_tokenizer(path, revision=revision)


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
        token_id, config = _language_id(tokenizer, target_lang), cast(Any, model.generation_config)
        start = config.decoder_start_token_id
        start = model.config.decoder_start_token_id if start is None else start
        is_special = start in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        setattr(config, "forced_bos_token_id" if is_special else "decoder_start_token_id", token_id)


def _language_id(tokenizer: PreTrainedTokenizerBase, lang: str) -> int:
    """The token id of a language code."""
    if not hasattr(tokenizer, "src_lang"):
        raise ValueError(f"Languages must be left out for a {type(tokenizer).__name__}, which has none, got {lang!r}.")
    try:
        token_id = cast(Any, getattr(tokenizer, "get_lang_id", tokenizer.convert_tokens_to_ids))(lang)
    except KeyError:
        token_id = tokenizer.unk_token_id
    if token_id == tokenizer.unk_token_id:
        raise ValueError(f"A language must be one that the teacher's tokenizer has, got {lang!r}. See its model card.")
    return token_id


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
