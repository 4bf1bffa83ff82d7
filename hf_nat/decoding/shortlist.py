"""Short lists: the target words that a source can be translated by, of which alone a model chooses.

Dimension letters: B batch, S source, K words of a list, V vocabulary, N pairs of a corpus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..alignment import align
from ..base.bounds import require_number
from ..base.config import option, refuse_changed
from ..data.arguments import CorpusArguments
from ..data.encoding import encode
from ..data.several import corpus_place
from ..models import NATPreTrainedModel
from .sources import encode_sources


@dataclass(frozen=True, kw_only=True)
class ShortListArguments:
    """Of which corpus a short list is made, and how long it is, for arguments that have both languages of it.

    Raises:
        ValueError: if a number is below 1, or there is one without a corpus, or a corpus without languages.
    """

    shortlist: str | None = option(
        None,
        "NAT model: corpus (CORPUS#CONFIG is a configuration) whose word links list the target tokens of each source "
        "token of a batch, the only ones written: a translation depends on its neighbours, and a large batch may take "
        "longer than without",
    )
    shortlist_best: int = option(50, "`shortlist`: target tokens listed for each source token")
    shortlist_frequent: int = option(200, "`shortlist`: most frequent target tokens, which every list has")

    def __post_init__(self) -> None:
        if self.shortlist is not None and None in self._languages:
            raise ValueError("`shortlist` must come with `source_lang` and `target_lang`, got it alone.")
        for name in ("shortlist_best", "shortlist_frequent"):
            require_number(name, getattr(self, name), least=1)
        if self.shortlist is None:
            refuse_changed(self, ("shortlist_best", "shortlist_frequent"), "without `shortlist`")

    @property
    def _languages(self) -> tuple[str | None, str | None]:
        own: Any = self
        return own.source_lang, own.target_lang

    def load_shortlist(self) -> Any:
        """Loads the rows of the corpus that the short list is made of; None without one."""
        if self.shortlist is None:
            return None
        source_lang, target_lang = self._languages
        languages = {"source_lang": str(source_lang), "target_lang": str(target_lang)}
        return CorpusArguments(**corpus_place(self.shortlist), **languages).load_pairs("train")

    @property
    def shortlist_options(self) -> dict[str, Any]:
        """The options of the short list as a run records them; empty without one."""
        sizes = {f"shortlist_{name}": size for name, size in self.shortlist_sizes.items()}
        return {"shortlist": self.shortlist, **sizes} if sizes else {}

    @property
    def shortlist_sizes(self) -> dict[str, int]:
        """How long the lists are; empty without any."""
        return {} if self.shortlist is None else {"best": self.shortlist_best, "frequent": self.shortlist_frequent}

    def short_list_kwargs(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Returns the argument `short_list` of `translate`, with the list of the corpus; empty without one.

        Args:
            model (`PreTrainedModel`): what decodes.
            tokenizer (`PreTrainedTokenizerBase`): its tokenizer.

        Raises:
            ValueError: if the model takes no short list, or the corpus has no target.
        """
        if self.shortlist is None:
            return {}
        if not isinstance(model, NATPreTrainedModel):
            raise ValueError(f"`shortlist` must be left out for an autoregressive model, got {self.shortlist!r}.")
        if hasattr(model, "sessions"):
            raise ValueError(
                f"`shortlist` must be left out for an exported model, got {self.shortlist!r}. Its graph has the one "
                "that it was exported with: `hf-nat export --shortlist`."
            )
        return {"short_list": load_short_list(self, model, tokenizer)}


class ShortList(nn.Module):
    """For each source token the target tokens that it was aligned with most often, itself, and those of every list.

    That it is in its own list lets names and numbers be copied that the corpus has not.

    Args:
        best (`torch.LongTensor` of shape `(V, K)`): the tokens of each source token; a row is filled up with one of
            `always`. Its first column is the token itself, if it may be written.
        always (`torch.LongTensor` of shape `(A,)`): tokens that every sentence may use.
        vocab_size (`int`): size of the vocabulary (V).
    """

    def __init__(self, best: torch.Tensor, always: torch.Tensor, vocab_size: int) -> None:
        super().__init__()
        self.best: torch.Tensor
        self.always: torch.Tensor
        self.vocab_size = vocab_size
        self.register_buffer("best", best.int())
        self.register_buffer("always", always)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Joins the lists of a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens.

        Returns:
            `torch.LongTensor` of shape `(V',)`: the target tokens, in rising order.
        """
        listed = torch.cat([self.best[input_ids].flatten().long(), self.always])
        marks = torch.zeros(self.vocab_size, dtype=torch.long, device=input_ids.device)
        return marks.scatter(0, listed, 1).nonzero().squeeze(1)


def build_short_list(
    pairs: Iterable[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Sequence[int],
    vocab_size: int,
    *,
    num_best: int,
    num_frequent: int,
    kept: Sequence[int] = (),
) -> ShortList:
    """Aligns the tokens of a corpus and keeps the most frequent links of each source token.

    Args:
        pairs (`Iterable[tuple[str, str]]`): sources and targets (N).
        tokenizer (`PreTrainedTokenizerBase`): cuts both into tokens.
        vocabulary (`Sequence[int]`): the tokens that may be written.
        vocab_size (`int`): size of the vocabulary.
        num_best (`int`): tokens listed for a source token.
        num_frequent (`int`): most frequent target tokens, which every list has.
        kept (`Sequence[int]`): further tokens that every list has, such as the blank of CTC.

    Returns:
        [`ShortList`]: the lists.

    Source: the lexical shortlists of Marian (Junczys-Dowmunt et al. 2018) and CTranslate2's `vmap`, with links in
        place of probabilities.
    """
    allowed = set(vocabulary)
    texts = [list(side) for side in zip(*pairs, strict=True)]
    sources, targets = encode_sources(tokenizer, texts[0]), encode(tokenizer, [""] * len(texts[1]), texts[1])["labels"]
    frequent = Counter(token for ids in targets for token in ids if token in allowed)
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    links = align(*([list(map(str, ids)) for ids in side] for side in (sources, targets)), symmetrize="grow-diag")
    for row, sentence in enumerate(links):
        for source, target in sentence:
            if (token := targets[row][target]) in allowed:
                counts[sources[row][source]][token] += 1
    always = sorted({*kept, *(token for token, _ in frequent.most_common(num_frequent))})
    lists = {source: [token for token, _ in found.most_common(num_best)] for source, found in counts.items()}
    best = torch.full((vocab_size, 1 + max(map(len, lists.values()), default=0)), always[0])
    best[list(vocabulary), 0] = torch.tensor(vocabulary, dtype=torch.long)
    for source, tokens in lists.items():
        best[source, 1 : 1 + len(tokens)] = torch.tensor(tokens)
    return ShortList(best, torch.tensor(always), vocab_size)


def content_vocabulary(model: Any) -> torch.Tensor:
    """Returns the tokens `(V',)` that a model may choose."""
    forbidden = set(model._forbidden_token_ids())
    return torch.tensor([token for token in range(model.config.vocab_size) if token not in forbidden])


def load_short_list(
    args: ShortListArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> ShortList | None:
    """Makes the short list that the arguments ask for.

    Raises:
        ValueError: if the corpus has no target that is not blank.
    """
    rows = args.load_shortlist()
    if rows is None:
        return None
    source_lang, target_lang = args._languages
    pairs = [(pair[source_lang], pair[target_lang]) for pair in rows["translation"] if pair[target_lang].strip()]
    if not pairs:
        raise ValueError(f"`shortlist` must be a corpus with at least 1 target, got {args.shortlist!r} with 0.")
    architecture: Any = model
    special, forbidden = architecture._special_token_ids(), architecture._forbidden_token_ids()
    return build_short_list(
        pairs,
        tokenizer,
        content_vocabulary(model).tolist(),
        architecture.config.vocab_size,
        num_best=args.shortlist_best,
        num_frequent=args.shortlist_frequent,
        kept=sorted(set(special) - set(forbidden)),
    ).to(model.device)
