"""Configuration of the mixture-of-experts teacher."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import MarianConfig


@strict
class MoEMarianConfig(MarianConfig):
    """Configuration of a Marian model that is a mixture of experts, told apart by the decoder's start token.

    Args:
        num_experts (`int`, defaults to 3): number of experts (K), at least 1.
        expert_token_ids (`list[int]`, *optional*): start token of each expert; by default the last K ids of the
            embedding, so `vocab_size` is the tokenizer's size + K and no text ever contains them.
        prior (`"uniform"` or `"learned"`, defaults to `"uniform"`): p(expert | source): 1 / K, or what a gating
            network predicts from the encoder states.
        assignment (`"hard"` or `"soft"`, defaults to `"hard"`): whether a sentence trains the most probable expert, or
            every expert in proportion to its posterior probability.
        label_smoothing (`float`, defaults to 0.0): uniform probability mass of the targets in the loss, in [0, 1); it
            never bears on the choice of the expert, nor on the posterior.
        decoder_start_token_id (`int`, *optional*): token of the expert that decodes where none is asked for; any
            other token is replaced by that of expert 0.

    Raises:
        ValueError: if a field is out of range, or an expert's token is not one of its own inside the vocabulary.

    Source: Shen et al. 2019 (https://arxiv.org/abs/1902.07816): uniform and hard is their hMoEup, learned and hard
        hMoElp, uniform and soft sMoEup, learned and soft sMoElp.
    """

    model_type = "moe_marian"
    keys_to_ignore_at_inference = [
        "past_key_values",
        "cache",  # the same since transformers 5.24
        "experts",
        "expert_log_probs",
        "expert_posteriors",
        "expert_counts",
    ]

    # Marian's vocabulary and three experts.
    vocab_size: int = 58104
    num_experts: int = 3
    expert_token_ids: list[int] | None = None
    prior: Literal["uniform", "learned"] = "uniform"
    assignment: Literal["hard", "soft"] = "hard"
    label_smoothing: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_experts < 1:
            raise ValueError(f"`num_experts` must be >= 1, got {self.num_experts}. Use 1 for a plain teacher.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1), got {self.label_smoothing}. Use 0 for none.")
        own_size = None if self.share_encoder_decoder_embeddings else self.decoder_vocab_size
        num_tokens = own_size or self.vocab_size
        tokens = self.expert_token_ids
        if tokens is None:
            tokens = list(range(num_tokens - self.num_experts, num_tokens))
        self._check_expert_tokens(tokens, num_tokens)
        self.expert_token_ids = tokens
        if self.decoder_start_token_id not in tokens:
            self.decoder_start_token_id = tokens[0]
        super().__post_init__(**kwargs)

    def _check_expert_tokens(self, tokens: list[int], num_tokens: int) -> None:
        """Refuses expert tokens that are too few or many, equal, special or outside the vocabulary."""
        if len(set(tokens)) != len(tokens) or len(tokens) != self.num_experts:
            raise ValueError(
                f"`expert_token_ids` must be `num_experts` = {self.num_experts} different tokens, got {tokens}. "
                "Leave it out for the last ids of the vocabulary."
            )
        eos = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        special = {self.pad_token_id, self.bos_token_id, *eos}
        if special & set(tokens) or not all(0 <= token < num_tokens for token in tokens):
            raise ValueError(
                f"`expert_token_ids` must be in [0, {num_tokens}) and none of pad, BOS and EOS, got {tokens}. Let "
                "`vocab_size` be the tokenizer's size + `num_experts`."
            )
