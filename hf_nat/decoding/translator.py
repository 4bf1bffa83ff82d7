"""Text in, text out: sentences translated by any seq2seq model, autoregressive or not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm
from transformers import LogitsProcessorList, MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_number
from ..base.processes import process_state
from ..base.utils import progress_bar
from ..models import NATPreTrainedModel
from .beam_search import beam_search
from .documents import SentenceSplitter
from .drafting import Draft
from .language_model import NGramLanguageModel
from .scoring import mean_log_probs, padded_batch
from .sources import encode_non_blank, output_limits, token_batches
from .terms import continuation_tokens, term_tokens
from .translations import RowJudge, Translation, highest, to_texts, to_translations


DEFAULT_MAX_NEW_TOKENS = 200
# What `beam_search` can be told.
_BEAM_KEYS = {
    *("num_beams", "num_return_sequences", "length_penalty", "early_stopping", "do_sample", "max_new_tokens"),
    *("expert", "forced_bos_token_id", "synced_gpus"),
}

# From a source sentence to the target terms that its translation must hold.
TermsOf = Callable[[str], Sequence[str]]
Processors = Callable[[Sequence[int]], LogitsProcessorList]


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterable[str],
    *,
    progress: bool = False,
    shared: bool = False,
    **settings: Any,
) -> list[Translation]:
    """Translates sentences; the result is in the order of the input.

    Args:
        model (`PreTrainedModel`): a seq2seq model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentences (`Iterable[str]`): source sentences.
        progress (`bool`, *optional*, defaults to `False`): as in [`Translator`].
        shared (`bool`, *optional*, defaults to `False`): as in [`Translator`].
        settings: how, see [`Translator`]: `max_batch_tokens`, `with_scores`, `terms`, `num_beams`, ...

    Raises:
        ValueError: as [`Translator`].
    """
    return Translator(model, tokenizer, **settings)(sentences, progress=progress, shared=shared)


def _texts(name: str, sentences: Iterable[str], first: int = 1) -> list[str]:
    """Returns texts as a list.

    Args:
        name (`str`): what errors call them.
        sentences (`Iterable[str]`): the texts.
        first (`int`, *optional*, defaults to 1): number of the first one, for errors.

    Raises:
        ValueError: for one text, whose characters would be taken for sentences, and for what is no Unicode text.
    """
    _require_several(name, sentences)
    texts = list(sentences)
    for number, text in enumerate(texts, start=first):
        if not isinstance(text, str) or not _is_unicode(text):
            raise ValueError(f"`{name}` must be Unicode texts, got {text!r:.60} as number {number}.")
    return texts


def _require_several(name: str, sentences: object) -> None:
    if isinstance(sentences, str | bytes) or not isinstance(sentences, Iterable):
        kind = "the text" if isinstance(sentences, str) else f"a {type(sentences).__name__},"
        raise ValueError(f"`{name}` must be several texts, got {kind} {sentences!r:.60}. Write [text] for one.")


def _is_unicode(text: str) -> bool:
    """Tells whether a text has no half of a surrogate pair, as bytes that are not UTF-8 leave."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _naming_settings(model: PreTrainedModel, given: Mapping[str, Any]) -> Iterator[None]:
    """Says of an error of `generate` where the settings are that it refuses: its own do not tell."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{model.name_or_path}` must have a config.json and a generation_config.json that `generate` can use"
            f"{f' with {dict(given)}' if given else ''}: {error}"
        ) from error


class Translator:
    """Translates with a seq2seq model, autoregressive or not, in batches of sentences of similar length.

    A blank sentence has a blank translation, without a call of the model. A source longer than the model's positions
    is cut, marked and counted in one warning.

    Args:
        model (`PreTrainedModel`): a seq2seq model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        max_batch_tokens (`int`, *optional*, defaults to 4096): source tokens of a batch, padding counted. A longer
            sentence is a batch of its own.
        with_scores (`bool`, *optional*, defaults to `False`): score the outputs, of an autoregressive model with one
            more forward pass per batch.
        judge (`Callable`, *optional*): with `num_return_sequences` of an autoregressive model: from the numbers of a
            batch's sentences and the texts of the outputs of each, the best first, to the quality of every output. The
            highest is kept, of equal ones the first; by default the first of all is.
        processors (`Callable`, *optional*): from the numbers of a batch's sentences to the `LogitsProcessorList` that
            decodes them, for an autoregressive model; the outputs of a sentence are rows one after the other.
        source_prefix (`str`, *optional*): text put before every sentence that is not blank.
        max_length_a (`float`, *optional*): most output tokens of an autoregressive model for each source token, see
            `output_limits`; by default `max_new_tokens` alone limits it.
        max_length_b (`int`, *optional*, defaults to 0): output tokens beside them.
        draft ([`Draft`], *optional*): the student whose drafts an autoregressive model verifies, instead of writing
            greedily token by token.
        terms (`Callable`, *optional*): from a sentence to the target terms that its translation must hold, such as a
            [`TermList`]; for a NAT model that can (`holds_terms`).
        generate_kwargs: passed on to `model.generate` (`num_beams`, `length_penalty`, `max_iterations`, ...); a
            `language_model` may be what [`NGramLanguageModel`] reads, a file or a folder. For an
            autoregressive model `max_new_tokens` is 200 by default and never more than its positions; the token
            that `forced_bos_token_id`, here or in the model's generation config, puts first is not one of them.

    Raises:
        ValueError: if a number is out of its range, or `draft` or `terms` do not fit the model; when it is called,
            if the sentences are one text, or not all are Unicode texts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_batch_tokens: int = 4096,
        with_scores: bool = False,
        judge: RowJudge | None = None,
        processors: Processors | None = None,
        source_prefix: str | None = None,
        max_length_a: float | None = None,
        max_length_b: int = 0,
        draft: Draft | None = None,
        terms: TermsOf | None = None,
        **generate_kwargs: Any,
    ) -> None:
        require_number("max_batch_tokens", max_batch_tokens, least=1)
        require_number("max_length_a", max_length_a, least=0)
        require_number("num_beams", generate_kwargs.get("num_beams"), least=1, remedy="Use 1 for no beam.")
        if draft is not None:
            draft.require_teacher(model)
        if terms is not None:
            require_terms(model)
            self._continuations = continuation_tokens(tokenizer, model.config.vocab_size)
        self.model, self.tokenizer = model, tokenizer
        self.max_batch_tokens, self.with_scores = max_batch_tokens, with_scores
        self.judge, self.processors = judge, processors
        self.source_prefix = source_prefix
        self.max_length = max_length_a, max_length_b
        self.draft, self.terms = draft, terms
        if isinstance(path := generate_kwargs.get("language_model"), str | Path):
            generate_kwargs["language_model"] = NGramLanguageModel(path, tokenizer)
        self.generate_kwargs = generate_kwargs

    def __call__(self, sentences: Iterable[str], *, progress: bool = False, shared: bool = False) -> list[Translation]:
        """Translates sentences; the result is in their order.

        Args:
            sentences (`Iterable[str]`): source sentences.
            progress (`bool`, *optional*, defaults to `False`): show a progress bar where standard error is a terminal.
            shared (`bool`, *optional*, defaults to `False`): deal the batches out to the processes that a launcher
                started, all of which must call with the same arguments. Each gets the translations of all: those of
                one process, which forms the same batches.
        """
        sentences = _texts("sentences", sentences)
        state = process_state() if shared else None
        disable = not progress or (state is not None and not state.is_main_process)
        with progress_bar(len(sentences), "Translating", disable=disable) as bar:
            return [output for (output,) in self._translate(sentences, bar, state)]

    def candidates(self, sentences: Iterable[str]) -> list[list[Translation]]:
        """Returns all `num_return_sequences` outputs for every sentence, the best first.

        A blank sentence has one output, a blank.
        """
        sentences = _texts("sentences", sentences)
        with progress_bar(len(sentences), "Translating", disable=True) as bar:
            return self._translate(sentences, bar, keep_all=True)

    def stream(
        self,
        lines: Iterable[str],
        *,
        window: int = 1000,
        progress: bool = False,
        splitter: SentenceSplitter | None = None,
    ) -> Iterator[Translation]:
        """Translates a stream in its order, holding `window` sentences in memory at a time.

        Args:
            lines (`Iterable[str]`): source sentences.
            window (`int`, *optional*, defaults to 1000): sentences read, sorted by length and translated at a time.
            progress (`bool`, *optional*, defaults to `False`): show a progress bar where standard error is a terminal.
            splitter ([`SentenceSplitter`], *optional*): splits each line into sentences that are translated one by
                one.

        Returns:
            `Iterator[Translation]`: one per line.

        Raises:
            ValueError: if `lines` is one text, or `window` no whole number from 1 on; for a line that is no Unicode
                text, when it is read.
        """
        _require_several("lines", lines)
        if not isinstance(window, int) or not 1 <= window <= sys.maxsize:
            raise ValueError(f"`window` must be a whole number in [1, {sys.maxsize}], got {window!r}.")
        return self._windows(lines, window, progress, splitter)

    def _windows(
        self, lines: Iterable[str], window: int, progress: bool, splitter: SentenceSplitter | None
    ) -> Iterator[Translation]:
        """Does the work of `stream`, whose arguments these are; a generator alone would check them too late."""
        total = len(lines) if isinstance(lines, Sized) else None
        remaining, number = iter(lines), 1
        with progress_bar(total, "Translating", disable=not progress) as bar:

            def decode(sentences: Sequence[str]) -> list[Translation]:
                return [output for (output,) in self._translate(sentences, bar)]

            while chunk := _texts("lines", islice(remaining, window), number):
                yield from decode(chunk) if splitter is None else splitter.translate(chunk, decode)
                number += len(chunk)

    def _translate(
        self, sentences: Sequence[str], bar: tqdm, state: PartialState | None = None, keep_all: bool = False
    ) -> list[list[Translation]]:
        """Translates the sentences that are not blank, in batches by length, and puts the results in order.

        A sentence has one output, or with `keep_all` all of them.
        """
        sources = encode_non_blank(self.model, self.tokenizer, sentences, self.source_prefix)
        lengths = [len(ids) for ids in sources.input_ids]
        num_forced = _num_forced_tokens(self.model, self.generate_kwargs)
        longest = max_new_tokens(self.model, self.generate_kwargs, num_forced)
        limits = output_limits(lengths, longest, *self.max_length)
        batches = token_batches(lengths, self.max_batch_tokens, limits)
        if state is None:
            bar.update(len(sentences) - len(sources.rows))
        else:
            batches = batches[state.process_index :: state.num_processes]
            bar.reset(sum(map(len, batches)))
        results: list[tuple[int, list[Translation]]] = []
        for batch in batches:
            numbers = [sources.rows[i] for i in batch]
            input_rows = [sources.input_ids[i] for i in batch]
            inputs = padded_batch(input_rows, self.tokenizer.pad_token_id, self.model.device)
            with torch.inference_mode():
                if isinstance(self.model, NATPreTrainedModel):
                    outputs = self._nat_batch(inputs, [sentences[number] for number in numbers], keep_all)
                else:
                    outputs = self._autoregressive_batch(inputs, numbers, limits[batch[0]], num_forced, keep_all)
            results += zip(batch, outputs, strict=True)
            bar.update(len(batch))
        if state is not None:
            results = gather_object(results)
        return sources.in_order([output for _, output in sorted(results, key=itemgetter(0))])

    def _nat_batch(
        self, inputs: dict[str, Tensor], sentences: Sequence[str], keep_all: bool
    ) -> list[list[Translation]]:
        """Translates one batch with a NAT model; the sentences say which terms they need."""
        model: Any = self.model
        settings = self.generate_kwargs | {"return_dict_in_generate": True, "output_scores": self.with_scores}
        if self.terms is not None:
            settings["terms"] = [term_tokens(self.tokenizer, self.terms(sentence)) for sentence in sentences]
            settings["continuations"] = self._continuations
        output = model.generate(**inputs, **settings)
        scores = output.sequences_scores.tolist() if self.with_scores else None
        iterations = output.iterations.tolist()
        translations = to_translations(self.tokenizer, output.sequences.tolist(), scores, iterations=iterations)
        copies = len(translations) // len(sentences)
        marked = [replace(translation, candidate=row % copies) for row, translation in enumerate(translations)]
        num_kept = copies if keep_all else 1
        return [marked[first : first + num_kept] for first in range(0, len(marked), copies)]

    def _autoregressive_batch(
        self, inputs: dict[str, Tensor], numbers: list[int], limit: int, num_forced: int, keep_all: bool
    ) -> list[list[Translation]]:
        """Translates one batch, the sentences of these numbers, into at most `limit` tokens behind the forced ones."""
        model, tokenizer = self.model, self.tokenizer
        decoded, counts = self._decode(inputs, numbers, limit + num_forced)
        num_given = 1 + num_forced  # the decoder's start token and what was forced on it
        copies = len(decoded) // len(numbers)
        kept: list[tuple[int, float | None]] = [(candidate, None) for _ in numbers for candidate in range(copies)]
        if not keep_all:
            kept = self._chosen(decoded[:, num_given:], numbers)
        num_kept = len(kept) // len(numbers)
        sentences = [row // num_kept for row in range(len(kept))]
        rows = [copies * sentence + candidate for sentence, (candidate, _) in zip(sentences, kept, strict=True)]
        decoded, scores = decoded[rows], None
        if self.with_scores:
            own = {name: tensor[sentences] for name, tensor in inputs.items()} if num_kept > 1 else inputs
            scores = mean_log_probs(model, own, decoded, tokenizer.eos_token_id, num_given, self.max_batch_tokens)
        translations = to_translations(tokenizer, decoded[:, num_given:].tolist(), scores, limit=limit, **counts)
        marked = [
            replace(translation, candidate=candidate, quality=quality)
            for translation, (candidate, quality) in zip(translations, kept, strict=True)
        ]
        return [marked[first : first + num_kept] for first in range(0, len(marked), num_kept)]

    def _decode(
        self, inputs: dict[str, Tensor], numbers: list[int], limit: int
    ) -> tuple[Tensor, dict[str, list[int]]]:
        """Returns the outputs `(B * K, T)` of an autoregressive model, and what a draft's verification counted."""
        generate = cast(Any, self.model).generate
        # No `max_length`: the one of the checkpoint would only bring a warning with every batch.
        settings = {"max_length": None} | self.generate_kwargs | {"max_new_tokens": limit}
        if self.processors is not None:
            settings["logits_processor"] = self.processors(numbers)
        if self.draft is not None or self._is_plain_beam:
            settings["use_cache"] = True  # Both are made of it, whatever the checkpoint says.
        if self.draft is not None:
            output = generate(**inputs, **settings, custom_generate=self.draft, return_dict_in_generate=True)
            return output.sequences, {name: output[name].tolist() for name in ("teacher_calls", "accepted_tokens")}
        custom = beam_search if self._is_plain_beam else None
        with _naming_settings(self.model, self.generate_kwargs):
            return generate(**inputs, **{**settings, "return_dict_in_generate": False}, custom_generate=custom), {}

    @property
    def _is_plain_beam(self) -> bool:
        """Whether `beam_search` finds what `generate` would: by rules that look at the tokens of each row alone."""
        given, own = self.generate_kwargs, self.model.generation_config
        reads_source = own is not None and (
            bool(own.encoder_no_repeat_ngram_size) or own.encoder_repetition_penalty not in (None, 1.0)
        )
        return (
            isinstance(self.model, MarianMTModel)
            and not reads_source
            and given.get("num_beams", 1) > 1
            and given.get("early_stopping") is True
            and not given.get("do_sample")
            and given.keys() <= _BEAM_KEYS
            and self.processors is None
        )

    def _chosen(self, sequences: Tensor, numbers: list[int]) -> list[tuple[int, float | None]]:
        """Returns for each of B sentences the number of the output, out of `sequences` [B * K, T], and its quality."""
        if self.judge is None:
            return [(0, None)] * len(numbers)
        texts, copies = to_texts(self.tokenizer, sequences.tolist()), len(sequences) // len(numbers)
        qualities = self.judge(numbers, [texts[first : first + copies] for first in range(0, len(texts), copies)])
        chosen = [highest(own) for own in qualities]
        return [(candidate, own[candidate]) for candidate, own in zip(chosen, qualities, strict=True)]


def require_terms(model: PreTrainedModel) -> None:
    """Raises ValueError unless a model can hold the tokens of terms."""
    if not isinstance(model, NATPreTrainedModel):
        raise ValueError(
            f"`terms` must be left out for an autoregressive model, got a {type(model).__name__}. Use a "
            "Levenshtein Transformer or a CMLM, which can hold them."
        )
    cast(Any, model).require_terms()


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
