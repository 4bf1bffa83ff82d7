"""Text in, text out: loads a checkpoint and translates sentences with it, autoregressive or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import AutoModelForSeq2SeqLM, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .config import option
from .data.encoding import encode
from .data.tokenizer import load_tokenizer
from .models import NATPreTrainedModel
from .utils import progress_bar


logger = logging.get_logger(__name__)

DEFAULT_MAX_NEW_TOKENS = 200
# Most logits that scoring computes at a time: 128 MB in single precision, and a few times that on the way.
_MAX_LOGITS = 2**25

Processors = Callable[[Sequence[int]], LogitsProcessorList]


@dataclass(frozen=True)
class Translation:
    """One translated sentence.

    Args:
        text (`str`): the translation, on one line and without blanks at its ends.
        score (`float`, *optional*): mean log-probability in nats. Autoregressive model: of its tokens, EOS counted and
            a forced first token not, under the model's own distribution; only computed on request. NAT model: of its
            content tokens, as `generate` reports it.
        num_tokens (`int`): tokens of the output; EOS and a forced first token, such as a language code, not counted.
        truncated (`bool`): the source was cut to the model's positions, or an autoregressive output reached its
            length limit.
        iterations (`int`, *optional*): decoder rounds of a NAT model.
    """

    text: str
    score: float | None
    num_tokens: int
    truncated: bool
    iterations: int | None


# From the number of a sentence and the texts of its outputs, the best first, to the index of the one that is kept.
Choose = Callable[[int, Sequence[str]], int]


@dataclass
class DecodingArguments:
    """How a model decodes: the options of `hf-nat translate` and `hf-nat evaluate`.

    Raises:
        ValueError: if a size is below 1.
    """

    max_batch_tokens: int = option(4096, "source tokens per batch, padding counted")
    num_beams: int = option(1, "AT model: beam size; 1 is greedy")
    length_penalty: float = option(1.0, "AT model: beam scores are divided by length ** length_penalty")
    expert: int | None = option(None, "mixture of experts: the one that decodes, from 0; default: the checkpoint's")
    max_iterations: int | None = option(None, "NAT model: refinement rounds; default: the checkpoint's")
    length_beam: int | None = option(None, "NAT model with a length predictor: lengths tried in parallel")
    num_candidates: int | None = option(None, "NAT model that inserts, DA-Transformer: candidates of a sentence")
    num_samples: int | None = option(None, "FlowSeq: latent samples of each length")
    latent_temperature: float | None = option(None, "FlowSeq: standard deviation of the samples but the first")
    eos_penalty: float | None = option(None, "NAT model that inserts: what inserting nothing loses, in nats")
    max_length_ratio: float | None = option(None, "NAT model that inserts: target tokens per source token, at most")
    ctc_beam_size: int | None = option(None, "CTC: hypotheses of the prefix beam search; 1 takes the best path")
    graph_decoding: str | None = option(None, "DA-Transformer: greedy, lookahead or viterbi")
    viterbi_length_penalty: float | None = option(
        None, "DA-Transformer: path scores / tokens ** viterbi_length_penalty"
    )
    collapse_repeats: bool | None = option(None, "NAT model: keep the first of equal neighbours")
    reranker: str | None = option(None, "NAT model: AT model that chooses among the candidates, a folder or Hub id")
    ensemble: list[str] | None = option(None, "NAT model: further models whose probabilities are averaged with it")

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")

    def options(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the options that bear on `model` as a run records them, unset ones left out.

        Raises:
            ValueError: if an option of the other kind of model is set, or there is no such expert.
        """
        expert = decoding_expert(model, self.expert)
        at_options = ("max_batch_tokens", "num_beams", "length_penalty", "expert")
        nat_options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in at_options}
        given = {key: value for key, value in nat_options.items() if value is not None}
        if isinstance(model, NATPreTrainedModel):
            if self.num_beams != 1:
                knobs = " or ".join(f"`{knob}`" for knob in cast(Any, model).candidate_knobs)
                raise ValueError(f"`num_beams` must be 1 for a NAT model, got {self.num_beams}. Use {knobs}.")
            return given
        for key, value in given.items():
            raise ValueError(f"`{key}` must be left out for an autoregressive model, got {value!r}.")
        beam: dict[str, Any] = {"num_beams": 1}
        if self.num_beams > 1:
            beam = {"num_beams": self.num_beams, "length_penalty": self.length_penalty, "early_stopping": True}
        return beam | ({} if expert is None else {"expert": expert})

    def generate_kwargs(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the arguments of `translate` for `model`; a re-ranking teacher and an ensemble are loaded."""
        kwargs = {"max_batch_tokens": self.max_batch_tokens, **self.options(model)}
        if reranker := kwargs.pop("reranker", None):
            kwargs["teacher"] = load_model(reranker)[0]
        if ensemble := kwargs.pop("ensemble", None):
            kwargs["ensemble"] = [load_model(member)[0] for member in ensemble]
        if not isinstance(model, NATPreTrainedModel):
            kwargs["do_sample"] = False
        return kwargs


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


def process_state() -> PartialState:
    """Returns this process's place among those that a launcher started, and its device.

    Without an accelerator `PartialState()` would let every process believe that it is alone. The processes wait a day
    for each other, as the slowest of a long distillation may need.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timedelta(days=1))


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    *,
    max_batch_tokens: int = 4096,
    with_scores: bool = False,
    progress: bool = False,
    shared: bool = False,
    choose: Choose | None = None,
    processors: Processors | None = None,
    **generate_kwargs: Any,
) -> list[Translation]:
    """Translates sentences in batches of similar length; the result is in the order of the input.

    A blank sentence has a blank translation, without a call of the model. A source longer than the model's positions
    is cut, marked and counted in one warning.

    Args:
        model (`PreTrainedModel`): a seq2seq model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentences (`Sequence[str]`): source sentences.
        max_batch_tokens (`int`, *optional*, defaults to 4096): source tokens of a batch, padding counted. A longer
            sentence is a batch of its own.
        with_scores (`bool`, *optional*, defaults to `False`): score an autoregressive model's outputs, with one more
            forward pass per batch.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar where standard error is a terminal.
        shared (`bool`, *optional*, defaults to `False`): deal the batches out to the processes that a launcher
            started, all of which must call with the same arguments. Each gets the translations of all: those of one
            process, which forms the same batches.
        choose (`Callable`, *optional*): with `num_return_sequences` of an autoregressive model: from the number of a
            sentence and the texts of its outputs, the best first, to the index of the one that is kept; by default the
            first is.
        processors (`Callable`, *optional*): from the numbers of a batch's sentences to the `LogitsProcessorList` that
            decodes them, for an autoregressive model.
        generate_kwargs: passed on to `model.generate` (`num_beams`, `length_penalty`, `max_iterations`, ...). For an
            autoregressive model `max_new_tokens` is 200 by default and never more than its positions; the token
            that `forced_bos_token_id`, here or in the model's generation config, puts first is not one of them.

    Returns:
        `list[Translation]`: one per sentence.

    Raises:
        ValueError: if `max_batch_tokens` is below 1.
    """
    decoder = _Decoder(model, tokenizer, max_batch_tokens, with_scores, choose, processors, generate_kwargs)
    state = process_state() if shared else None
    disable = not progress or (state is not None and not state.is_main_process)
    with progress_bar(len(sentences), "Translating", disable=disable) as bar:
        return decoder.translate(sentences, bar, state)


def translate_stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterable[str],
    *,
    window: int = 1000,
    max_batch_tokens: int = 4096,
    with_scores: bool = False,
    progress: bool = False,
    **generate_kwargs: Any,
) -> Iterator[Translation]:
    """Translates a stream in its order, holding `window` sentences in memory at a time.

    Args:
        model (`PreTrainedModel`): a seq2seq model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        lines (`Iterable[str]`): source sentences.
        window (`int`, *optional*, defaults to 1000): sentences read, sorted by length and translated at a time.
        max_batch_tokens (`int`, *optional*, defaults to 4096): as in `translate`.
        with_scores (`bool`, *optional*, defaults to `False`): as in `translate`.
        progress (`bool`, *optional*, defaults to `False`): as in `translate`.
        generate_kwargs: as in `translate`.

    Returns:
        `Iterator[Translation]`: one per line.

    Raises:
        ValueError: if `window` or `max_batch_tokens` is below 1.
    """
    if window < 1:
        raise ValueError(f"`window` must be >= 1, got {window}.")
    total = len(lines) if isinstance(lines, Sized) else None
    remaining = iter(lines)
    decoder = _Decoder(model, tokenizer, max_batch_tokens, with_scores, None, None, generate_kwargs)
    with progress_bar(total, "Translating", disable=not progress) as bar:
        while chunk := list(islice(remaining, window)):
            yield from decoder.translate(chunk, bar)


@dataclass
class _Decoder:
    """How `translate` calls a model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_batch_tokens: int
    with_scores: bool
    choose: Choose | None
    processors: Processors | None
    generate_kwargs: dict[str, Any]

    def __post_init__(self) -> None:
        if self.max_batch_tokens < 1:
            raise ValueError(f"`max_batch_tokens` must be >= 1, got {self.max_batch_tokens}.")

    def translate(self, sentences: Sequence[str], bar: tqdm, state: PartialState | None = None) -> list[Translation]:
        """Translates the sentences that are not blank, in batches by length, and puts the results in order."""
        sources = encode_non_blank(self.model, self.tokenizer, sentences)
        batches = token_batches([len(ids) for ids in sources.input_ids], self.max_batch_tokens)
        if state is None:
            bar.update(len(sentences) - len(sources.rows))
        else:
            batches = batches[state.process_index :: state.num_processes]
            bar.reset(sum(map(len, batches)))
        results: list[tuple[int, Translation]] = []
        for batch in batches:
            outputs = self._batch([sources.input_ids[i] for i in batch], [sources.rows[i] for i in batch])
            results += zip(batch, outputs, strict=True)
            bar.update(len(batch))
        if state is not None:
            results = gather_object(results)
        return sources.in_order([output for _, output in sorted(results, key=itemgetter(0))])

    @torch.inference_mode()
    def _batch(self, input_rows: list[list[int]], numbers: list[int]) -> list[Translation]:
        """Translates one batch, the sentences of these numbers."""
        model, tokenizer = self.model, self.tokenizer
        attention_mask = pad_sequence([torch.ones(len(ids), dtype=torch.long) for ids in input_rows], batch_first=True)
        input_ids = pad_sequence(
            [torch.tensor(ids) for ids in input_rows], batch_first=True, padding_value=tokenizer.pad_token_id
        )
        inputs = {"input_ids": input_ids.to(model.device), "attention_mask": attention_mask.to(model.device)}
        generate = cast(Any, model).generate
        if isinstance(model, NATPreTrainedModel):
            output = generate(**inputs, return_dict_in_generate=True, **self.generate_kwargs)
            scores, iterations = output.sequences_scores.tolist(), output.iterations.tolist()
            return to_translations(tokenizer, output.sequences.tolist(), scores, iterations=iterations)
        num_forced = _num_forced_tokens(model, self.generate_kwargs)
        limit = max_new_tokens(model, self.generate_kwargs, num_forced)
        # No `max_length`: the one of the checkpoint would only bring a warning with every batch.
        settings = {"max_length": None} | self.generate_kwargs | {"max_new_tokens": limit + num_forced}
        if self.processors is not None:
            settings["logits_processor"] = self.processors(numbers)
        decoded = generate(**inputs, **settings)
        num_given = 1 + num_forced  # the decoder's start token and what was forced on it
        if len(decoded) > len(input_rows):
            decoded = decoded[self._chosen(decoded[:, num_given:], numbers)]
        scores = None
        if self.with_scores:
            scores = _mean_log_probs(model, inputs, decoded, tokenizer.eos_token_id, num_given, self.max_batch_tokens)
        return to_translations(tokenizer, decoded[:, num_given:].tolist(), scores, limit=limit)

    def _chosen(self, sequences: Tensor, numbers: list[int]) -> list[int]:
        """Returns the row of `sequences` [B * K, T] that is kept for each of B sentences."""
        copies = len(sequences) // len(numbers)
        if self.choose is None:
            return list(range(0, len(sequences), copies))
        texts = to_texts(self.tokenizer, sequences.tolist())
        return [
            first + self.choose(number, texts[first : first + copies])
            for number, first in zip(numbers, range(0, len(sequences), copies), strict=True)
        ]


@dataclass(frozen=True)
class EncodedSources:
    """The sentences of a list that are not blank, as token ids.

    Args:
        num_sentences (`int`): length of the list.
        rows (`Sequence[int]`): number of each sentence in the list.
        input_ids (`Sequence[Sequence[int]]`): its tokens, cut to the model's positions.
        cut (`Set[int]`): which of them were cut.
    """

    num_sentences: int
    rows: Sequence[int]
    input_ids: Sequence[list[int]]
    cut: Set[int]

    def in_order(self, outputs: Iterable[Translation]) -> list[Translation]:
        """Puts the translations of these sentences into the list's order: a blank's is blank, a cut one's marked."""
        results = [Translation("", None, 0, False, None)] * self.num_sentences
        for i, (row, output) in enumerate(zip(self.rows, outputs, strict=True)):
            results[row] = replace(output, truncated=output.truncated or i in self.cut)
        return results


def encode_non_blank(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str]
) -> EncodedSources:
    """Encodes the sentences that are not blank, cut to the model's positions, with a warning that counts these.

    Args:
        model (`PreTrainedModel`): a seq2seq model.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentences (`Sequence[str]`): source sentences.

    Returns:
        [`EncodedSources`]: what to decode, and how to put the outputs in order.
    """
    rows = [row for row, sentence in enumerate(sentences) if sentence.strip()]
    input_ids = encode_sources(tokenizer, [sentences[row] for row in rows])
    limit = max_source_length(model)
    cut = {i for i, ids in enumerate(input_ids) if limit is not None and len(ids) > limit}
    if cut:
        logger.warning(f"Cut {len(cut)} of {len(rows)} sources to the {limit} positions of the model.")
        shortened = encode_sources(tokenizer, [sentences[rows[i]] for i in sorted(cut)], limit)
        for i, ids in zip(sorted(cut), shortened, strict=True):
            input_ids[i] = ids
    return EncodedSources(len(sentences), rows, input_ids, cut)


def to_texts(tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> list[str]:
    """Returns the text of each row of token ids, on one line, special tokens and blanks at its ends left out."""
    texts = tokenizer.batch_decode(sequences, skip_special_tokens=True) if sequences else []
    return [re.sub(r"[\r\n]+", " ", text).strip() for text in texts]


def to_translations(
    tokenizer: PreTrainedTokenizerBase,
    sequences: list[list[int]],
    scores: Sequence[float] | None = None,
    *,
    limit: int | None = None,
    iterations: Sequence[int] | None = None,
) -> list[Translation]:
    """Makes translations of token ids.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): turns them into text.
        sequences (`list[list[int]]`): content, EOS, then anything; a row without EOS was cut.
        scores (`Sequence[float]`, *optional*): mean log-probability of each row, nats.
        limit (`int`, *optional*): tokens with EOS at which a row is marked as cut, though it ended there.
        iterations (`Sequence[int]`, *optional*): decoder rounds of each row.
    """
    eos = tokenizer.eos_token_id
    num_tokens = [ids.index(eos) if eos in ids else len(ids) for ids in sequences]
    return [
        Translation(
            text=text,
            score=None if scores is None else scores[row],
            num_tokens=num_tokens[row],
            truncated=num_tokens[row] == len(sequences[row]) or num_tokens[row] + 1 == limit,
            iterations=None if iterations is None else iterations[row],
        )
        for row, text in enumerate(to_texts(tokenizer, sequences))
    ]


def token_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Groups sequences of similar length, the longest first, so that no padded batch exceeds a number of tokens.

    Args:
        lengths (`Sequence[int]`): tokens of each sequence.
        max_batch_tokens (`int`): largest product of a batch's size and its longest sequence; a sequence longer than
            this is a batch of its own.

    Returns:
        `list[list[int]]`: the indices of each batch, a function of the arguments alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Encodes sources as `encode` does; also for a tokenizer that puts more tokens behind EOS, as mBART a language.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of any seq2seq model.
        sentences (`Sequence[str]`): source sentences.
        max_length (`int`, *optional*): longer sources are cut to so many tokens, those that the tokenizer adds
            included; a cut source has them too.

    Returns:
        `list[list[int]]`: token ids of each sentence, not padded.

    Raises:
        ValueError: if the tokenizer puts no EOS behind a sentence, or `max_length` leaves no room for a sentence.
    """
    added: list[int] = tokenizer("")["input_ids"]
    if tokenizer.eos_token_id not in added or added[-1] == tokenizer.eos_token_id:
        return encode(tokenizer, sentences, max_source_length=max_length)["input_ids"]
    if max_length is not None and max_length <= len(added):
        raise ValueError(f"`max_length` must be > {len(added)} for this tokenizer, got {max_length}.")
    stripped = [sentence.strip() for sentence in sentences]
    input_ids: list[list[int]] = (
        tokenizer(stripped, split_special_tokens=True, verbose=False)["input_ids"] if stripped else []
    )
    suffix = added[added.index(tokenizer.eos_token_id) :]
    return [
        ids if max_length is None or len(ids) <= max_length else [*ids[: max_length - len(suffix)], *suffix]
        for ids in input_ids
    ]


def max_source_length(model: PreTrainedModel) -> int | None:
    """Returns the longest source that `model` has positions for, in tokens; `None` where nothing limits it."""
    return getattr(model.config, "max_position_embeddings", None)


def _num_forced_tokens(model: PreTrainedModel, generate_kwargs: dict[str, Any]) -> int:
    """The number of tokens, 0 or 1, that `generate` puts behind the decoder's start token whatever the model says."""
    forced = generate_kwargs.get("forced_bos_token_id")
    if forced is None and model.generation_config is not None:
        forced = model.generation_config.forced_bos_token_id
    return int(forced is not None)


def max_new_tokens(model: PreTrainedModel, generate_kwargs: Mapping[str, Any], num_forced: int = 0) -> int:
    """Returns the length limit of an autoregressive model's output in tokens: as asked for, but inside its positions.

    Args:
        model (`PreTrainedModel`): a seq2seq model.
        generate_kwargs (`Mapping[str, Any]`): `max_new_tokens` is 200 where it is missing.
        num_forced (`int`, *optional*, defaults to 0): tokens that are put first and do not count.
    """
    wanted: int = generate_kwargs.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS)
    positions = getattr(model.config, "max_position_embeddings", None)
    return wanted if positions is None else min(wanted, positions - num_forced)


def _mean_log_probs(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    decoded: Tensor,
    eos_token_id: int,
    num_given: int,
    max_batch_tokens: int,
) -> list[float]:
    """Mean log-probability in nats of the tokens of each row of `decoded` [B, num_given + T], EOS counted.

    The `num_given` first tokens, the decoder's start token and a forced one, are not the model's and do not count.
    One forward pass over the outputs: `generate` itself would only tell beam scores together with the logits of every
    step and beam, which do not fit in memory for a large batch and vocabulary. For the same reason rows of similar
    length are scored together, and no more than `max_batch_tokens` tokens and `_MAX_LOGITS` logits at a time.
    """
    is_eos = decoded[:, num_given:] == eos_token_id
    num_scored = ((is_eos.cumsum(dim=1) == 0).sum(dim=1) + is_eos.any(dim=1)).cpu()
    max_tokens = min(max_batch_tokens, _MAX_LOGITS // model.config.vocab_size)
    scores = torch.zeros(len(decoded))
    for batch in token_batches(num_scored.tolist(), max(max_tokens, 1)):
        rows, lengths = decoded[batch, : num_given + int(num_scored[batch].max())], num_scored[batch]
        own = {name: tensor[batch] for name, tensor in inputs.items()}
        logits = model(**own, decoder_input_ids=rows[:, :-1]).logits[:, num_given - 1 :]  # [b, t, V]
        targets = rows[:, num_given:]
        log_probs = -nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")  # [b, t]
        is_scored = torch.arange(targets.shape[1]) < lengths[:, None]
        # Not a product: a model may forbid padding by a bias of minus infinity.
        scores[batch] = log_probs.cpu().masked_fill(~is_scored, 0.0).sum(dim=1) / lengths
    return scores.tolist()
