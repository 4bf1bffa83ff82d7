"""Teachers of many families, untrained, with their tokenizers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from tokenizers import processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PegasusTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from hf_nat.data.tokenizer import train_tokenizer


SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
    "dropout": 0.0,
}


@dataclass
class Teacher:
    """A teacher that has learnt to copy, and the token that it must put first."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    forced: int | None


def pieces(folder: Path, sentences: list[str], **ids: int) -> sentencepiece.SentencePieceProcessor:
    """Trains the SentencePiece model of a family, under the names that its tokenizer looks for."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    shutil.copy(folder / "spiece.model", folder / "sentencepiece.bpe.model")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))


def vocabulary(folder: Path, model: sentencepiece.SentencePieceProcessor, first: list[str], last: list[str]) -> str:
    """Writes a vocabulary beside a SentencePiece model, whose own special tokens have the numbers 0 to 2."""
    tokens = [*first, *(model.id_to_piece(i) for i in range(3, len(model))), *last]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    return str(folder / "vocab.json")


def marian(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, the last token of the vocabulary, which its bias forbids."""
    vocab = vocabulary(folder, pieces(folder, sentences), ["</s>", "<unk>"], ["<pad>"])
    spm = str(folder / "spiece.model")
    tokenizer = MarianTokenizer(source_spm=spm, target_spm=spm, vocab=vocab, source_lang="en", target_lang="xx")
    pad = tokenizer.pad_token_id
    config = MarianConfig(
        **SIZES,
        vocab_size=pad + 1,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    model = MarianMTModel(config)
    model.final_logits_bias[0, pad] = -torch.inf
    return Teacher(model, tokenizer, None)


def bart(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with `</s>` and is made to go on with `<s>`; `<s>` leads its sources too."""
    tokenizer = train_tokenizer(sentences * 2, 80)
    special = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=special
    )
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    config = BartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=bos,
        eos_token_id=eos,
        decoder_start_token_id=eos,
        forced_eos_token_id=eos,
    )
    return Teacher(BartForConditionalGeneration(config), tokenizer, bos)


def mbart(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with the target language; its sources end in `</s>` and their language."""
    pieces(folder, sentences)
    tokenizer = MBartTokenizer.from_pretrained(folder, src_lang="en_XX", tgt_lang="de_DE")
    config = MBartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("de_DE"),
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    return Teacher(MBartForConditionalGeneration(config), tokenizer, None)


def mbart50(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with `</s>` and is made to go on with the target language; its sources begin with theirs."""
    pieces(folder, sentences)
    tokenizer = MBart50Tokenizer.from_pretrained(folder, src_lang="en_XX", tgt_lang="de_DE")
    forced = tokenizer.convert_tokens_to_ids("de_DE")
    config = MBartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    return Teacher(MBartForConditionalGeneration(config), tokenizer, forced)


def m2m100(folder: Path, sentences: list[str]) -> Teacher:
    """As mBART-50, with a slow tokenizer whose `decode` would leave the language in the text. NLLB is one of these."""
    vocab = vocabulary(folder, pieces(folder, sentences), ["<s>", "<pad>", "</s>", "<unk>"], [])
    spm = str(folder / "spiece.model")
    tokenizer = M2M100Tokenizer(vocab_file=vocab, spm_file=spm, src_lang="en", tgt_lang="de")
    forced = tokenizer.get_lang_id("de")
    config = M2M100Config(
        **SIZES,
        vocab_size=max(tokenizer.lang_token_to_id.values()) + 1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    return Teacher(M2M100ForConditionalGeneration(config), tokenizer, forced)


def t5(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, number 0; relative positions, so no source is too long."""
    pieces(folder, sentences, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = T5Tokenizer.from_pretrained(folder)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return Teacher(T5ForConditionalGeneration(config), tokenizer, None)


def pegasus(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, number 0."""
    pieces(folder, sentences, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = PegasusTokenizer.from_pretrained(folder)
    config = PegasusConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
    )
    return Teacher(PegasusForConditionalGeneration(config), tokenizer, None)


def opus_multilingual(folder: Path, sentences: list[str]) -> Teacher:
    """A Marian teacher whose sources begin with the target language."""
    last = [">>deu<<", ">>nld<<", "<pad>"]
    vocab = vocabulary(folder, pieces(folder, sentences), ["</s>", "<unk>"], last)
    spm = str(folder / "spiece.model")
    tokenizer = MarianTokenizer(source_spm=spm, target_spm=spm, vocab=vocab)
    pad = tokenizer.pad_token_id
    special = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": 0}
    return Teacher(MarianMTModel(MarianConfig(**SIZES, vocab_size=pad + 1, **special)), tokenizer, None)


def nllb(folder: Path, sentences: list[str]) -> Teacher:
    """A model as M2M-100 with a tokenizer of its own, whose codes name the script too."""
    pieces(folder, sentences)
    tokenizer = NllbTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["eng_Latn", "deu_Latn"]})
    eos = tokenizer.eos_token_id
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": eos, "decoder_start_token_id": eos}
    model = M2M100ForConditionalGeneration(M2M100Config(**SIZES, vocab_size=len(tokenizer), **special))
    return Teacher(model, tokenizer, tokenizer.convert_tokens_to_ids("deu_Latn"))


def madlad(folder: Path, sentences: list[str]) -> Teacher:
    """A T5 whose sources begin with the target language, a piece of its vocabulary."""
    pieces(folder, sentences, unk_id=0, pad_id=1, eos_id=2, bos_id=-1, user_defined_symbols=["<2de>"])
    tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special))
    return Teacher(model, tokenizer, None)


def t5_with_task(folder: Path, sentences: list[str]) -> Teacher:
    """A T5 that knows the words of its task."""
    return t5(folder, [*sentences, "translate English to German: hello"])


FAMILIES = {build.__name__: build for build in (marian, bart, mbart, mbart50, m2m100, t5, pegasus)}
