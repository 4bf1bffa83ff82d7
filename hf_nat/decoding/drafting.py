"""A NAT student drafts, an autoregressive teacher verifies: the teacher's greedy output in fewer calls of it.

Dimension letters: B batch, R sentences of it that have not ended, S source, T target, D draft, V vocabulary, W
positions that one call of the teacher reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import EosTokenCriteria, MaxLengthCriteria
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from ..base.bounds import require_number
from ..models import NATPreTrainedModel
from ..models.canvas import mask_canvas, prepend
from ..models.word_choice import forbid
from .drafted_rows import CachedTeacher, DraftedRows, places_of
from .translations import Translation


_TOKENS_ALONE = {"return_dict_in_generate": False, "return_history": False}
# What greedy decoding is for `generate`, and what its output can hold here.
_GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "use_cache": True} | dict.fromkeys(
    ("output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)


@dataclass
class DraftOutput(ModelOutput):
    """Output of `generate` with a [`Draft`] under `return_dict_in_generate=True`.

    Args:
        sequences (`torch.LongTensor` of shape `(B, T)`): the decoder's start token, content, EOS, padding.
        teacher_calls (`torch.LongTensor` of shape `(B,)`): calls of the teacher's decoder until the sentence ended.
        accepted_tokens (`torch.LongTensor` of shape `(B,)`): tokens of the draft, EOS counted, that it accepted.
    """

    sequences: Tensor
    teacher_calls: Tensor = None  # type: ignore[assignment]
    accepted_tokens: Tensor = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Draft:
    """A student drafts, the teacher verifies: greedy decoding by `teacher.generate(custom_generate=Draft(...))`.

    One call of the teacher reads the sentence so far and the next tokens of the draft. Those that it would have
    written are accepted, and one token of its own follows them, behind whose nearest place in the draft the draft goes
    on. The output is that of greedy decoding whatever the draft, but for ties of rounding. The sentences of a batch go
    on each at its own place. What else shapes greedy decoding holds: forced and forbidden tokens, limits of the
    length, the expert of a mixture.

    Args:
        model (`PreTrainedModel`): a NAT model of the teacher's vocabulary, in eval mode. One that fills masks (CMLM)
            drafts again behind what was accepted, in one pass; all others draft once.
        length (`int`, *optional*, defaults to 25): most tokens of a draft that one call verifies.
        beta (`int`, *optional*, defaults to 1): accept a drafted token that is among the teacher's `beta` best; from 2
            on the output is no more that of greedy decoding.
        tau (`float`, *optional*, defaults to 1.0): if also its log-probability is within this of the best, in nats.
        generate_kwargs (`Mapping[str, Any]`, *optional*): options of the student's `generate`; by default those of its
            checkpoint.

    Raises:
        ValueError: if a number is out of range, or `model` is autoregressive.

    Source: Xia et al. 2023 (arXiv:2203.16487), with their block of 25 and, where it is relaxed, `beta` 3 and `tau` 1;
        the nearest place is ours.
    """

    model: PreTrainedModel
    length: int = 25
    beta: int = 1
    tau: float = 1.0
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.model, NATPreTrainedModel):
            raise ValueError(
                f"`draft` must be a NAT model, got a {type(self.model).__name__}. Use a student of the teacher."
            )
        for name, least in (("length", 1), ("beta", 1), ("tau", 0)):
            require_number(name, getattr(self, name), least=least)

    def require_teacher(self, teacher: PreTrainedModel) -> None:
        """Raises ValueError unless a model is autoregressive and of the student's vocabulary."""
        cast(Any, self.model).require_teacher(teacher, "model")

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        *,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        inputs_tensor: Tensor,
        **model_kwargs: Any,
    ) -> Tensor | DraftOutput:
        """Decodes a batch. The arguments are those that `generate` of transformers gives to its decoding loops.

        Args:
            model (`PreTrainedModel`): the teacher.
            input_ids (`torch.LongTensor` of shape `(B, T)`): the decoder's start token and what was given behind it.
            logits_processor (`LogitsProcessorList`): changes the teacher's scores.
            stopping_criteria (`StoppingCriteriaList`): EOS and the longest output.
            generation_config (`GenerationConfig`): other settings.
            inputs_tensor (`torch.LongTensor` of shape `(B, S)`): source tokens, right-padded.
            **model_kwargs: the teacher's encoder states, mask of the source and cache.

        Returns:
            `torch.LongTensor` of shape `(B, T)` or [`DraftOutput`]: start token, content, EOS, padding.

        Raises:
            ValueError: if the teacher does not fit the student, or what is asked for is not greedy decoding.
        """
        self.require_teacher(model)
        _require_greedy(generation_config, stopping_criteria)
        settings: Any = generation_config
        num_given = input_ids.shape[1]
        sequences = input_ids.new_full((len(input_ids), settings.max_length), settings.pad_token_id)
        sequences[:, :num_given] = input_ids
        lengths, calls, accepted = torch.zeros((3, len(sequences)), dtype=torch.long, device=input_ids.device)
        teacher = CachedTeacher(model, logits_processor, sequences, model_kwargs)
        rows = self._first_rows(sequences, num_given, settings, inputs_tensor, model_kwargs.get("attention_mask"))
        while len(rows.numbers):
            rows = self._verify(teacher, rows)
            rows, is_live = rows.end(settings._eos_token_tensor, settings.pad_token_id, num_given)
            sequences[rows.numbers] = rows.tokens
            lengths[rows.numbers], accepted[rows.numbers] = rows.lengths, rows.accepted
            calls[rows.numbers] += 1
            if not bool(is_live.all()):
                live = is_live.nonzero().squeeze(1)
                rows = rows.select(live)
                teacher.select(live)
            if len(rows.numbers):
                teacher.cut_back(int(rows.lengths.min()) - 1)
                rows = self._draft_again(rows)
        sequences = sequences[:, : int(lengths.max())]
        if not settings.return_dict_in_generate:
            return sequences
        return DraftOutput(sequences=sequences, teacher_calls=calls, accepted_tokens=accepted)

    def _first_rows(
        self, sequences: Tensor, num_given: int, settings: Any, source: Tensor, source_mask: Tensor | None
    ) -> DraftedRows:
        """Translates the sources `[B, S]` by the student."""
        student: Any = self.model
        source = source[:, : student.config.max_position_embeddings]
        mask = student.model.source_mask(source, None if source_mask is None else source_mask[:, : source.shape[1]])
        draft = student.generate(source, attention_mask=mask, **{**self.generate_kwargs, **_TOKENS_ALONE})
        draft_lengths = draft.ne(student.config.pad_token_id).sum(dim=1)
        forced = settings.forced_bos_token_id
        first = torch.zeros_like(draft_lengths)
        return DraftedRows(
            numbers=torch.arange(len(sequences), device=sequences.device),
            tokens=sequences,
            lengths=first + num_given,
            accepted=first,
            draft=draft if forced is None else prepend(draft, forced),
            draft_lengths=draft_lengths + int(forced is not None),
            following=first + num_given - 1,
            num_forced=int(forced is not None),
            source_mask=mask,
            student_states=student.model.encoder(source, mask).last_hidden_state if student.fills_masks else None,
        )

    def _verify(self, teacher: CachedTeacher, rows: DraftedRows) -> DraftedRows:
        """Lets the teacher accept what it agrees with, and write one token more."""
        cached, limit = teacher.num_cached, rows.tokens.shape[1]
        canvas, is_draft = rows.canvas(self.length, min(limit - 1, cached + teacher.max_positions(len(rows.numbers))))
        scores = teacher.scores(canvas, rows.numbers)
        best = scores.argmax(dim=2)
        read = canvas[:, cached + 1 :]  # What the scores but the last are about.
        agreed = read == best[:, :-1]
        if self.beta > 1:
            agreed |= self._is_near(scores[:, :-1], read)
        is_known = places_of(canvas)[cached + 1 :] < rows.lengths[:, None]
        num_agreed = (is_known | agreed & is_draft[:, cached + 1 :]).long().cumprod(dim=1).sum(dim=1)
        return rows.go_on(canvas, cached + 1 + num_agreed, best.gather(1, num_agreed[:, None]))

    def _is_near(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Finds the tokens `[R, W]` that relaxed acceptance accepts by scores `[R, W, V]`."""
        own = scores.gather(2, tokens[:, :, None])
        is_near = scores.max(dim=2).values - own.squeeze(2) <= self.tau
        return is_near & ((scores > own).sum(dim=2) < self.beta)

    def _draft_again(self, rows: DraftedRows) -> DraftedRows:
        """Lets a student that fills masks write what follows the sentence so far, up to the end of its first draft."""
        if rows.student_states is None:
            return rows
        student: Any = self.model
        config = student.config
        num_forced = rows.num_forced
        num_known = rows.lengths - 1 - num_forced
        lengths = torch.maximum(rows.draft_lengths - num_forced, num_known + 1).clamp(
            max=config.max_position_embeddings
        )
        canvas = mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id)
        places = places_of(canvas)
        known = rows.tokens[:, (places + 1 + num_forced).clamp(max=rows.tokens.shape[1] - 1)]
        canvas = torch.where(places < num_known[:, None], known, canvas)
        logits = student(
            encoder_outputs=BaseModelOutput(last_hidden_state=rows.student_states),
            attention_mask=rows.source_mask,
            decoder_input_ids=canvas,
        ).logits
        forbid(logits, student._special_token_ids())
        draft = torch.where(canvas == config.mask_token_id, logits.argmax(dim=2), canvas)
        return dataclasses.replace(
            rows,
            draft=torch.cat([rows.draft[:, :num_forced], draft], dim=1),
            draft_lengths=lengths + num_forced,
            following=rows.lengths - 1,
        )


@dataclass
class DraftCounts:
    """How far the drafts of some sentences went.

    Args:
        num_sentences (`int`): sentences that were drafted.
        teacher_calls (`int`): calls of the teacher's decoder that verified them.
        accepted_tokens (`int`): tokens of the drafts that it accepted, EOS counted.
    """

    num_sentences: int = 0
    teacher_calls: int = 0
    accepted_tokens: int = 0

    def add(self, translations: Iterable[Translation]) -> Self:
        """Adds what was counted of some translations, and returns itself."""
        for translation in translations:
            if translation.teacher_calls is not None and translation.accepted_tokens is not None:
                self.num_sentences += 1
                self.teacher_calls += translation.teacher_calls
                self.accepted_tokens += translation.accepted_tokens
        return self

    def means(self) -> dict[str, float] | None:
        """Returns the calls of a sentence and the tokens that a call accepted; None where nothing was drafted."""
        if not self.num_sentences:
            return None
        return {
            "teacher_calls_mean": self.teacher_calls / self.num_sentences,
            "accepted_length_mean": self.accepted_tokens / self.teacher_calls,
        }

    @staticmethod
    def phrase(means: Mapping[str, float]) -> str:
        """Returns the means in words."""
        calls, accepted = means["teacher_calls_mean"], means["accepted_length_mean"]
        return f"{calls:.2f} calls of the teacher a sentence, {accepted:.2f} tokens of the draft accepted a call"


def _require_greedy(generation_config: GenerationConfig, stopping_criteria: StoppingCriteriaList) -> None:
    """Raises ValueError unless what is asked for is greedy decoding up to EOS or the longest output."""
    for name, value in _GREEDY.items():
        if getattr(generation_config, name, None) not in (None, value):
            raise ValueError(f"`{name}` must be {value} with a draft, got {getattr(generation_config, name)!r}.")
    for criterion in stopping_criteria:
        if not isinstance(criterion, EosTokenCriteria | MaxLengthCriteria):
            raise ValueError(
                f"A draft must be verified up to EOS or the longest output, got a {type(criterion).__name__}. "
                "Leave it out."
            )
