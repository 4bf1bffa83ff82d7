"""Small tokenizers in the layout of the OPUS-MT checkpoints: a SentencePiece model for each side, `<pad>` last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import MarianTokenizer


def save_marian_tokenizer(folder: Path, sources: Sequence[str], targets: Sequence[str], vocab_size: int) -> None:
    """Trains both sides on sentences, each with at most so many pieces, and writes the tokenizer into a folder."""
    spm = pytest.importorskip("sentencepiece", reason="a MarianTokenizer needs sentencepiece")
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["</s>", "<unk>"]
    for side, texts in (("source", sources), ("target", targets)):
        with open(folder / f"{side}.spm", "wb") as file:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=file, vocab_size=vocab_size, hard_vocab_limit=False,
                bos_id=-1, eos_id=0, unk_id=1, minloglevel=2,
            )  # fmt: skip
        model = spm.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        vocabulary += [model.id_to_piece(i) for i in range(len(model))]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys([*vocabulary, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(ids))
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    MarianTokenizer(*files).save_pretrained(folder)
