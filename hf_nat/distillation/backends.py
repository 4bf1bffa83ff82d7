"""What decodes a teacher: transformers in torch, or CTranslate2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..decoding import Translation, Translator
from .arguments import DistillArguments


logger = logging.get_logger(__name__)

# Source tokens of a batch where nobody says how many: what was fastest.
_BATCH_TOKENS = 4096
_CPU_BATCH_TOKENS = {"torch": 1024, "ct2": 512}


class Backend(Protocol):
    """A teacher that is ready to decode."""

    def translate(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[Translation]:
        """Translates sentences, with their scores; the arguments are those of `hf_nat.decoding.Translator`."""

    def candidates(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[list[Translation]]:
        """Returns all outputs of each sentence, with their scores, as `hf_nat.decoding.Translator.candidates`."""


class TorchTeacher:
    """Any seq2seq model, decoded by transformers on the device of the model.

    Args:
        model (`PreTrainedModel`): the model, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        max_batch_tokens (`int`): source tokens per batch, padding counted.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_batch_tokens: int) -> None:
        self._translator = partial(Translator, model, tokenizer, max_batch_tokens=max_batch_tokens, with_scores=True)

    def translate(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[Translation]:
        """Translates sentences, with their scores."""
        return self._translator(**generate_kwargs)(sentences)

    def candidates(self, sentences: Sequence[str], **generate_kwargs: Any) -> list[list[Translation]]:
        """Returns all outputs of each sentence, with their scores."""
        return self._translator(**generate_kwargs).candidates(sentences)


def recorded_choice(args: DistillArguments, settings: Mapping[str, Any]) -> DistillArguments:
    """Fills in what the arguments leave to the machine, as an earlier run into the folder chose it.

    Args:
        args (`DistillArguments`): the arguments.
        settings (`Mapping[str, Any]`): those that the folder was begun with, as `DistillArguments.settings`.
    """
    backend = settings["decoding"].get("backend", "torch") if args.backend == "auto" else args.backend
    max_batch_tokens = args.max_batch_tokens or settings["max_batch_tokens"]
    return replace(args, backend=backend, max_batch_tokens=max_batch_tokens)


def choose_backend(
    teachers: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]], args: DistillArguments
) -> DistillArguments:
    """Fills in what the arguments leave to the machine: CTranslate2 where it decodes a first sentence, else torch.

    Args:
        teachers (`Sequence[tuple]`): each teacher and its tokenizer; one backend decodes all.
        args (`DistillArguments`): the arguments.

    Raises:
        ValueError: if the arguments ask for a precision that only CTranslate2 has, and it cannot decode the teacher.
    """
    on_cpu = teachers[0][0].device.type == "cpu"

    def decided(backend: str) -> DistillArguments:
        default = _CPU_BATCH_TOKENS[backend] if on_cpu else _BATCH_TOKENS
        return replace(args, backend=backend, max_batch_tokens=args.max_batch_tokens or default)

    if args.backend != "auto":
        return decided(args.backend)
    try:
        chosen = decided("ct2")
        for number, (teacher, tokenizer) in enumerate(teachers):
            backend = load_backend(teacher, tokenizer, chosen, number)
            backend.translate(["a"], **chosen.translate_kwargs([0], number))
    except (ImportError, ValueError, RuntimeError) as error:
        logger.info(f"torch decodes, slower than CTranslate2, which does not: {error}")
        if args.compute_type != "float32":
            raise ValueError(
                f"`compute_type` must be float32 where CTranslate2 does not decode, got {args.compute_type!r}: {error}"
            ) from error
        return decided("torch")
    logger.info("`backend: auto` takes ct2: CTranslate2 is installed and decodes this teacher.")
    return chosen


def load_backend(
    teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments, number: int = 0
) -> Backend:
    """Makes the backend that the arguments ask for; what they left to the machine is chosen.

    Args:
        teacher (`PreTrainedModel`): the teacher.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        args (`DistillArguments`): backend, precision, batch, and the expert of the first teacher.
        number (`int`, *optional*, defaults to 0): number of the teacher among several.

    Raises:
        ImportError: if CTranslate2 is asked for and not installed.
        ValueError: if it cannot decode the teacher.
    """
    if args.max_batch_tokens is None:
        raise ValueError("`max_batch_tokens` must be chosen, got None. Call `choose_backend`.")
    if args.backend == "torch":
        return TorchTeacher(teacher, tokenizer, args.max_batch_tokens)
    try:
        from .ct2 import CT2Teacher
    except ImportError as error:
        raise ImportError(
            "`backend: ct2`, asked for or that of the folder's first run, needs CTranslate2: "
            "pip install 'hf_nat[ct2]', or use `backend: torch` and another `output_dir`."
        ) from error
    return CT2Teacher(
        teacher,
        tokenizer,
        compute_type=args.compute_type,
        max_batch_tokens=args.max_batch_tokens,
        expert=None if number else args.expert,
    )
