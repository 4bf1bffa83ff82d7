"""What decodes a teacher: transformers in torch, or CTranslate2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..decoding import Translation, translate
from .arguments import DistillArguments


class Backend(Protocol):
    """A teacher that is ready to decode."""

    def translate(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[Translation]:
        """Translates sentences, with their scores; the arguments are those of `hf_nat.decoding.translate`."""


class TorchTeacher:
    """Any seq2seq model, decoded by transformers on the device of the model.

    Args:
        model (`PreTrainedModel`): the model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        max_batch_tokens (`int`): source tokens per batch, padding counted.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_batch_tokens: int) -> None:
        self._model, self._tokenizer, self._max_batch_tokens = model, tokenizer, max_batch_tokens

    def translate(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[Translation]:
        """Translates sentences, with their scores."""
        settings = {"max_batch_tokens": self._max_batch_tokens, "with_scores": True, **generate_kwargs}
        return translate(self._model, self._tokenizer, sentences, **settings)


def load_backend(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments) -> Backend:
    """Makes the backend that the arguments ask for.

    Raises:
        ImportError: if CTranslate2 is asked for and not installed.
        ValueError: if it cannot decode the teacher.
    """
    if args.backend == "torch":
        return TorchTeacher(teacher, tokenizer, args.max_batch_tokens)
    try:
        from .ct2 import CT2Teacher
    except ImportError as error:
        raise ImportError("`backend: ct2` needs CTranslate2: pip install 'hf_nat[ct2]'.") from error
    return CT2Teacher(
        teacher,
        tokenizer,
        compute_type=args.compute_type,
        max_batch_tokens=args.max_batch_tokens,
        expert=args.expert,
    )
