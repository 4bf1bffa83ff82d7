"""Several teachers of one vocabulary as one: at each step the mean of their probabilities."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import log
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from ..decoding.beam_search import CACHE


class TeacherEnsemble(PreTrainedModel, GenerationMixin):
    """Several teachers that write together: the probability of a token is the mean of theirs.

    Args:
        members (`Sequence[PreTrainedModel]`): autoregressive seq2seq models of one vocabulary, on one device. Config
            and generation config of the first count: the token to start from, what is forbidden; the longest source is
            that of the member with the fewest positions.

    Raises:
        ValueError: if there is no member, one is a mixture of experts, or their vocabularies are of other sizes.

    Source: Freitag, Al-Onaizan & Sankaran 2017 (distillation of an ensemble).
    """

    main_input_name = "input_ids"

    def __init__(self, members: Sequence[PreTrainedModel]) -> None:
        if not members:
            raise ValueError("An ensemble must have at least 1 teacher, got none.")
        for member in members:
            if hasattr(member, "expert_token_id"):
                raise ValueError("`ensemble` must be of teachers without experts, got a mixture. Use `union`.")
            if member.config.vocab_size != members[0].config.vocab_size:
                raise ValueError(
                    f"`ensemble` must be of teachers with one vocabulary, got {members[0].config.vocab_size} and "
                    f"{member.config.vocab_size} tokens."
                )
        config = copy.deepcopy(members[0].config)
        config._attn_implementation = "eager"  # The members attend, each in its own way.
        if positions := [n for n in (getattr(m.config, "max_position_embeddings", None) for m in members) if n]:
            config.max_position_embeddings = min(positions)
        super().__init__(config)
        self.members = nn.ModuleList(members)
        self.generation_config = copy.deepcopy(members[0].generation_config)

    @property
    def device(self) -> torch.device:
        """Device of the first member."""
        return cast(PreTrainedModel, self.members[0]).device

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """Returns the encoders of all members as one, whose states lie side by side."""
        return _Encoders([cast(Any, member).get_encoder() for member in self.members])

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generates as the members do, with a cache for each, whatever the first one's checkpoint says."""
        generate: Any = GenerationMixin.generate
        return generate(self, *args, **kwargs | {CACHE: _Caches(len(self.members)), "use_cache": True})

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Returns the logarithms of the mean probabilities as logits `[B, T, V]`.

        Args:
            input_ids (`Tensor`, *optional*): source tokens `[B, S]`, where there are no encoder outputs.
            attention_mask (`Tensor`, *optional*): 1 for tokens `[B, S]`.
            decoder_input_ids (`Tensor`): tokens so far `[B, T]`.
            encoder_outputs (`BaseModelOutput`, *optional*): states of all encoders side by side.
            use_cache (`bool`, *optional*): fill the cache.
            kwargs: the cache of each member under the name of `CACHE`; what else `generate` passes is not used.
        """
        given: dict[str, Any] = {"attention_mask": attention_mask, "decoder_input_ids": decoder_input_ids}
        states: Sequence[Tensor | None] = [None] * len(self.members)
        if encoder_outputs is not None:
            sizes = [cast(Any, member).config.hidden_size for member in self.members]
            states = cast(Tensor, encoder_outputs.last_hidden_state).split(sizes, dim=-1)
        cache: _Caches | None = kwargs.get(CACHE)
        log_probs = []
        for number, (member, own) in enumerate(zip(self.members, states, strict=True)):
            source: dict[str, Any] = {"input_ids": input_ids}
            if own is not None:
                source = {"encoder_outputs": BaseModelOutput(last_hidden_state=own.contiguous())}
            own_cache = None if cache is None else cache.caches[number]
            output = member(**given, **source, use_cache=cache is not None, **{CACHE: own_cache})
            log_probs.append(output.logits.float().log_softmax(dim=-1))
        logits = torch.stack(log_probs).logsumexp(dim=0) - log(len(log_probs))
        return Seq2SeqLMOutput(logits=logits, **cast(Any, {CACHE: cache}))


class _Encoders(nn.Module):
    """The encoders of several models of one source; a state is theirs side by side."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = encoders  # Not registered: they belong to the members.

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutput:
        """Encodes the source `[B, S]` by every member: states `[B, S, D]` side by side in the last dimension."""
        states = [encoder(input_ids, attention_mask=attention_mask).last_hidden_state for encoder in self.encoders]
        return BaseModelOutput(last_hidden_state=torch.cat(states, dim=-1))


class _Caches(EncoderDecoderCache):
    """The caches of several decoders that write the same tokens."""

    def __init__(self, number: int) -> None:
        super().__init__(DynamicCache(), DynamicCache())
        self.caches = [EncoderDecoderCache(DynamicCache(), DynamicCache()) for _ in range(number)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns the number of tokens that have been decoded, the same in all caches."""
        return self.caches[0].get_seq_length(layer_idx)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Moves the rows of every cache to those of the beams that go on."""
        for cache in self.caches:
            cache.reorder_cache(cast(torch.LongTensor, beam_idx))


def require_one_vocabulary(tokenizers: Sequence[PreTrainedTokenizerBase], names: Sequence[str]) -> None:
    """Raises unless the tokenizers of an ensemble have the same tokens.

    Raises:
        ValueError: naming the teacher that differs.
    """
    for tokenizer, name in zip(tokenizers, names, strict=True):
        if tokenizer.get_vocab() != tokenizers[0].get_vocab():
            raise ValueError(
                f"`ensemble` must be of teachers with one vocabulary, got another one in {name!r}. Use `union`, which "
                "chooses among the candidates of any teachers."
            )
