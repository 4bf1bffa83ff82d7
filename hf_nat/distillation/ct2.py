"""MarianMT teachers decoded by CTranslate2: the rows that transformers decodes, several times faster on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ctranslate2 import TranslationResult, Translator
from ctranslate2.converters import Converter
from ctranslate2.converters.transformers import BartLoader
from ctranslate2.specs.common_spec import Activation
from ctranslate2.specs.transformer_spec import TransformerSpec
from transformers import MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_choice
from ..decoding import (
    RowJudge,
    Translation,
    encode_non_blank,
    keep_best,
    max_new_tokens,
    output_limits,
    to_translations,
)
from ..models.teacher import start_token_id


_ACTIVATIONS = {
    "relu": Activation.RELU,
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELUTanh,
    "silu": Activation.SWISH,
    "swish": Activation.SWISH,
}
# Settings of a generation config that say nothing here, or that the arguments of a distillation replace.
_WITHOUT_EFFECT = {
    *("transformers_version", "_from_model_config", "use_cache", "output_attentions", "output_hidden_states"),
    *("max_length", "max_new_tokens", "num_beams", "do_sample", "early_stopping", "length_penalty", "expert"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "renormalize_logits"),
}


class CT2Teacher:
    """A MarianMT teacher, converted for CTranslate2 and loaded on the device of the model.

    Beam search, greedy search and the candidates of interpolation are those of transformers; where two hypotheses are
    equally probable up to rounding, the other one may win, as may another output that reaches the limit where the
    teacher's generation config forces EOS on these. Scores too, but that tokens which this config forbids or forces
    have no share of the probability. `int8` rounds weights and activations to 8 bits: some outputs are others. A
    process uses the threads that torch would.

    Args:
        model (`PreTrainedModel`): a `MarianMTModel`, or a mixture of experts that is one.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        compute_type (`str`): precision of weights and arithmetic, out of those of `DistillArguments`.
        max_batch_tokens (`int`): source tokens per batch, padding counted.
        expert (`int`, *optional*): the expert of a mixture that decodes; by default the checkpoint's.

    Attributes:
        translator (`ctranslate2.Translator`): the converted model; its tokens are the ids, in decimal.

    Raises:
        ValueError: if the model is no `MarianMTModel`, it has an activation function or a setting of its generation
            config that CTranslate2 has not, or the device cannot compute in that precision.

    Source: CTranslate2 (https://opennmt.net/CTranslate2).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        compute_type: str,
        max_batch_tokens: int,
        expert: int | None = None,
    ) -> None:
        marian = _require_convertible(model)
        self._model, self._tokenizer = model, tokenizer
        self._forces_eos = model.generation_config.forced_eos_token_id == model.config.eos_token_id
        self._settings = {"max_batch_size": max_batch_tokens, "batch_type": "tokens", **_settings(marian)}
        on_cpu = model.device.type == "cpu"
        with TemporaryDirectory() as folder:
            path = Path(folder) / "teacher"
            convert_teacher(model, path, expert=expert)
            self.translator = Translator(
                str(path),
                device=model.device.type,
                device_index=model.device.index or 0,
                compute_type=compute_type,
                # Batches side by side: a batch gains less from a second thread than two batches do.
                inter_threads=torch.get_num_threads() if on_cpu else 1,
                intra_threads=1,
            )

    def _candidates(
        self, result: TranslationResult, limit: int, length_penalty: float, number: int
    ) -> list[tuple[list[int], float]]:
        """Returns the best outputs of a sentence and their scores, the sums over the tokens by length ** penalty.

        Where the teacher's generation config forces EOS on an output at the limit, it gets one, at no loss; that EOS
        counts in the length, which may make another output the best.
        """
        eos: Any = self._model.config.eos_token_id
        candidates = []
        for names, score in zip(result.hypotheses, result.scores, strict=True):
            ids = [int(name) for name in names]
            if self._forces_eos and ids[-1] != eos:
                ids = [*ids[: limit - 1], eos]
                score *= (len(names) / len(ids)) ** length_penalty
            candidates.append((ids, score))
        return sorted(candidates, key=lambda candidate: -candidate[1])[:number]

    def candidates(
        self,
        sentences: Sequence[str],
        *,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        num_return_sequences: int = 1,
        max_length_a: float | None = None,
        max_length_b: int = 0,
        **generate_kwargs: Any,
    ) -> list[list[Translation]]:
        """Returns the best outputs of every sentence, with their scores.

        Args:
            sentences (`Sequence[str]`): source sentences.
            num_beams (`int`, *optional*, defaults to 1): beam size.
            length_penalty (`float`, *optional*, defaults to 1.0): scores are divided by length ** length_penalty.
            num_return_sequences (`int`, *optional*, defaults to 1): outputs of a sentence.
            max_length_a (`float`, *optional*): as in [`Translator`].
            max_length_b (`int`, *optional*, defaults to 0): as there.
            **generate_kwargs: as there; only `max_new_tokens` has an effect.
        """
        sources = encode_non_blank(self._model, self._tokenizer, sentences)
        longest = max_new_tokens(self._model, generate_kwargs)
        limits = output_limits([len(ids) for ids in sources.input_ids], longest, max_length_a, max_length_b)
        # One call for each limit, which is one for all of a call; none waits for another.
        by_limit = {limit: [i for i, own in enumerate(limits) if own == limit] for limit in sorted(set(limits))}
        calls = [
            self.translator.translate_batch(
                [_names(sources.input_ids[i]) for i in chosen],
                beam_size=num_beams,
                length_penalty=length_penalty,
                num_hypotheses=num_beams if self._forces_eos else num_return_sequences,
                max_input_length=0,
                # The last token of an output that is cut may be a forced EOS, see `_candidates`.
                max_decoding_length=max(1, limit - self._forces_eos),
                min_decoding_length=0,
                return_scores=True,
                return_end_token=True,
                asynchronous=True,
                **self._settings,
            )
            for limit, chosen in by_limit.items()
        ]
        outputs: dict[int, list[Translation]] = {}
        for (limit, chosen), results in zip(by_limit.items(), calls, strict=True):
            for i, pending in zip(chosen, results, strict=True):
                candidates = self._candidates(pending.result(), limit, length_penalty, num_return_sequences)
                sequences = [ids for ids, _ in candidates]
                # From a sum by length ** length_penalty to the mean over the tokens, EOS counted.
                scores = [score * len(ids) ** (length_penalty - 1) for ids, score in candidates]
                translations = to_translations(self._tokenizer, sequences, scores, limit=limit)
                outputs[i] = [replace(output, candidate=number) for number, output in enumerate(translations)]
        return sources.in_order(outputs[i] for i in range(len(limits)))

    def translate(
        self, sentences: Sequence[str], *, judge: RowJudge | None = None, **generate_kwargs: Any
    ) -> list[Translation]:
        """Translates sentences, with their scores.

        Args:
            sentences (`Sequence[str]`): source sentences.
            judge (`Callable`, *optional*): as in [`Translator`].
            **generate_kwargs: as in `candidates`.
        """
        return keep_best(self.candidates(sentences, **generate_kwargs), judge)


def convert_teacher(
    model: PreTrainedModel,
    folder: Path,
    *,
    expert: int | None = None,
    quantization: str | None = None,
    vmap: Path | None = None,
) -> None:
    """Writes a MarianMT model for CTranslate2, its tokens named by their ids, in decimal.

    Args:
        model (`PreTrainedModel`): a `MarianMTModel`, or a mixture of experts that is one.
        folder (`Path`): the new folder.
        expert (`int`, *optional*): the expert of a mixture that decodes; by default the checkpoint's.
        quantization (`str`, *optional*): precision of the saved weights, by default the model's.
        vmap (`Path`, *optional*): short lists, a line for each source n-gram: n-gram, tab, target tokens.

    Raises:
        ValueError: if the model is no `MarianMTModel`, or has an activation function that CTranslate2 has not.
    """
    converter = _MarianConverter(_require_convertible(model), start_token_id(model, expert))
    converter.convert(str(folder), vmap=None if vmap is None else str(vmap), quantization=quantization)


def _require_convertible(model: PreTrainedModel) -> MarianMTModel:
    if not isinstance(model, MarianMTModel):
        raise ValueError(f"The teacher must be a MarianMTModel under `backend: ct2`, got a {type(model).__name__}.")
    require_choice(
        "activation_function",
        model.config.activation_function,
        sorted(_ACTIVATIONS),
        where="for a teacher under `backend: ct2`",
        remedy="Use `backend: torch`.",
    )
    return model


class _MarianConverter(Converter):
    """Converts a model in memory. Tokens are named by their ids: no name is missing, special or there twice."""

    def __init__(self, model: MarianMTModel, start_token_id: int) -> None:
        self.model, self.start_token_id = model, start_token_id

    @torch.no_grad()
    def _load(self) -> TransformerSpec:
        model, config = self.model, self.model.config
        loader = BartLoader()
        spec = TransformerSpec.from_config(
            (config.encoder_layers, config.decoder_layers),
            config.encoder_attention_heads,
            pre_norm=False,
            activation=_ACTIVATIONS[config.activation_function],
        )
        loader.set_encoder(spec.encoder, model.get_encoder())
        loader.set_decoder(spec.decoder, model.get_decoder())
        loader.set_linear(spec.decoder.projection, model.lm_head)
        bias = model.final_logits_bias[0].clone()
        # A mixture's own tokens have no probability.
        bias[getattr(config, "expert_token_ids", [])] = -torch.inf
        spec.decoder.projection.bias = bias
        spec.register_source_vocabulary(_names(range(model.get_encoder().embed_tokens.num_embeddings)))
        spec.register_target_vocabulary(_names(range(model.get_decoder().embed_tokens.num_embeddings)))
        spec.config.decoder_start_token = str(self.start_token_id)
        spec.config.eos_token = spec.config.bos_token = str(config.eos_token_id)
        spec.config.unk_token = str(config.pad_token_id)  # Never needed: every id has a name.
        return spec


def _names(ids: Iterable[int]) -> list[str]:
    return [str(token_id) for token_id in ids]


def _settings(model: MarianMTModel) -> dict[str, Any]:
    """What the checkpoint's generation config asks for, in CTranslate2's names."""
    wanted = {key: value for key, value in model.generation_config.to_diff_dict().items() if value is not None}
    suppressed = [*wanted.pop("bad_words_ids", []), *([token] for token in wanted.pop("suppress_tokens", []))]
    settings = {name: wanted.pop(name) for name in ("repetition_penalty", "no_repeat_ngram_size") if name in wanted}
    if wanted.get("forced_eos_token_id") == model.config.eos_token_id:
        del wanted["forced_eos_token_id"]  # Of outputs at the length limit, which are marked as cut.
    if unknown := sorted(wanted.keys() - _WITHOUT_EFFECT):
        raise ValueError(
            f"`{unknown[0]}` of the teacher's generation config must be unset under `backend: ct2`, got "
            f"{wanted[unknown[0]]!r}. Use `backend: torch`."
        )
    return settings | ({"suppress_sequences": [_names(ids) for ids in suppressed]} if suppressed else {})
