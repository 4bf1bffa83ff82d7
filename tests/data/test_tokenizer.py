from __future__ import annotations

import random
import unicodedata
from io import BytesIO

import pytest
from datasets import Dataset
from marian_tokenizers import save_marian_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, MarianTokenizer, PreTrainedTokenizerFast

from hf_nat.data import corpus_texts, encode, load_tokenizer, train_tokenizer


TEXTS = [
    f"The {size} {animal} sees {count} birds, doesn't it?"
    for size in ("big", "small", "grün")
    for animal in ("cat", "dog", "horse")
    for count in range(20)
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 90)


def test_special_tokens_have_their_fixed_ids(tokenizer):
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 4]
    ids = [getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk", "mask")]
    assert ids == [0, 1, 2, 3, 4]
    assert len(tokenizer) == 90


def test_sentences_end_in_eos_without_bos_and_pad_on_the_right(tokenizer):
    batch = tokenizer(["The cat", "The big cat sees"], padding=True)
    short, long = batch["input_ids"]
    assert len(short) == len(long)
    assert long[-1] == 2 and long.count(2) == 1 and 1 not in long
    assert short.count(2) == 1 and set(short[short.index(2) + 1 :]) == {0}
    assert tokenizer("")["input_ids"] == [2]


def test_decode_returns_the_text_exactly(tokenizer):
    for text in [*TEXTS, "The  cat   sees", "dog ,cat ?", "gru\u0308n it's"]:
        decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        assert decoded == unicodedata.normalize("NFC", text)


ODD = [
    *"\u2581\u2028\u2029\x85\x0b\x1c\t\r\n\u200b\u200d\ufeff\u00ad\u00a0\u3000\u0301\u20d0\ufdd0\ufdd1\ufdd2<&",
    "\U0001f469\u200d\U0001f4bb",
    "\U0001f1e9\U0001f1ea",
    "  ",
    " \u2581",
    "<s>",
    "a",
    "e",
]


def test_odd_characters_come_back_exactly(tmp_path):
    rng = random.Random(0)
    texts = ["".join(rng.choice(ODD) for _ in range(rng.randint(1, 12))) for _ in range(400)]
    # Characters alone, then merges across them too.
    for vocab_size in (60, 300):
        tokenizer = train_tokenizer(texts, vocab_size)
        tokenizer.save_pretrained(tmp_path / str(vocab_size))
        for found in (tokenizer, load_tokenizer(tmp_path / str(vocab_size))):
            for text in texts:
                ids = found(text)["input_ids"]
                assert not set(ids[:-1]) & {0, 1, 2, 3, 4}
                assert found.decode(ids, skip_special_tokens=True).lstrip(" ") == unicodedata.normalize(
                    "NFC", text
                ).lstrip(" ")


def test_tokenizer_of_an_older_version_loads_and_reads_as_before(tokenizer, tmp_path):
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>").save_pretrained(tmp_path)
    old = load_tokenizer(tmp_path)
    for text in TEXTS:
        assert old(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert old.decode(old(text)["input_ids"], skip_special_tokens=True) == text


def test_long_text_is_not_cut(tokenizer):
    text = " ".join(TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("special", ["<pad>", "<s>", "</s>", "<unk>", "<mask>"])
def test_spelled_special_tokens_are_text_even_where_bpe_would_merge_them(special):
    texts = [f"{left}{special}{right}" for left in "bcdefgh" for right in "tvwxyz"]
    characters = len({*"".join(texts)})
    for merges in range(1, 8):
        tokenizer = train_tokenizer(texts, 5 + 1 + characters + merges)
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            assert ids[-1] == 2
            assert not set(ids[:-1]) & {0, 1, 2, 3, 4}
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_training_is_deterministic(tokenizer):
    for _ in range(3):
        again = train_tokenizer(iter(TEXTS), 90)
        assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_saved_tokenizer_loads_with_auto_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert isinstance(loaded, PreTrainedTokenizerFast)
        assert len(loaded) == len(tokenizer)
        assert loaded.padding_side == "right"
        text = "The <mask> cat </s>"
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_vocab_size_without_room_for_the_characters_is_an_error():
    with pytest.raises(ValueError, match=r"`vocab_size` must be >= 10 .*got 7"):
        train_tokenizer(["abcd"], 7)
    assert len(train_tokenizer(["abcd"], 10)) == 10


def test_a_small_corpus_gives_fewer_tokens_and_says_so(caplog):
    assert len(train_tokenizer(["ab"], 50)) < 50
    assert "fewer than the `vocab_size` of 50" in caplog.text


@pytest.mark.parametrize("vocab_size", [0, -1])
def test_vocab_size_below_1_is_an_error(vocab_size):
    with pytest.raises(ValueError, match=f"`vocab_size` must be >= 1, got {vocab_size}"):
        train_tokenizer(["a"], vocab_size)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_an_error(texts):
    with pytest.raises(ValueError, match="`texts` must hold at least one character, got none"):
        train_tokenizer(texts, 100)


def test_corpus_texts_yields_both_sides_in_order():
    dataset = Dataset.from_list([{"id": i, "translation": {"en": f"e{i}", "de": f"d{i}"}} for i in range(1500)])
    expected = [text for i in range(1500) for text in (f"e{i}", f"d{i}")]
    assert list(corpus_texts(dataset, "en", "de")) == expected
    assert list(corpus_texts(dataset.to_iterable_dataset(), "en", "de")) == expected


@pytest.mark.parametrize("name", ["pad_token", "eos_token"])
def test_load_tokenizer_requires_pad_and_eos(name, tokenizer, tmp_path):
    tokens = {"pad_token": "<pad>", "eos_token": "</s>"}
    tokens.pop(name)
    backend = tokenizer.backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"must have a `{name}`, got none in `{tmp_path}`"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def marian_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marian")
    save_marian_tokenizer(folder, TEXTS, [text[::-1] for text in TEXTS], vocab_size=80)
    return folder


@pytest.fixture
def unigram():
    """A SentencePiece model and the same as a model of `tokenizers`: from pieces and their scores to both."""
    spm = pytest.importorskip("sentencepiece", reason="SentencePiece models need sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    def make(scores):
        proto = sentencepiece_model_pb2.ModelProto()
        for piece, score in {"<unk>": 0.0, **scores}.items():
            proto.pieces.add(piece=piece, score=score, type=2 if piece == "<unk>" else 1)
        proto.trainer_spec.model_type, proto.trainer_spec.unk_id = 1, 0
        backend = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0))
        return spm.SentencePieceProcessor(model_proto=proto.SerializeToString()), backend

    return make


def test_tokenizers_cuts_texts_otherwise_than_sentencepiece_where_scores_are_equal(unigram):
    # The reason why no tokenizer.json is written for such tokenizers; if this fails, one may be.
    own, backend = unigram({"▁": -3.0, "o": -1.1, "oo": -1.2})
    assert own.encode("oo", out_type=str) == backend.encode("▁oo").tokens == ["▁", "oo"]
    assert own.encode("ooo", out_type=str) == ["▁", "oo", "o"]
    assert backend.encode("▁ooo").tokens == ["▁", "o", "oo"]


def test_tokenizers_normalises_marks_otherwise_than_sentencepiece():
    # The other reason.
    spm = pytest.importorskip("sentencepiece", reason="SentencePiece models need sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    file, proto = BytesIO(), sentencepiece_model_pb2.ModelProto()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=file, vocab_size=40, normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    own = spm.SentencePieceProcessor(model_proto=file.getvalue())
    proto.ParseFromString(file.getvalue())
    normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    assert own.normalize("e\u0301") == "▁é" and normalizer.normalize_str("e\u0301") == "é"
    # A joiner behind it.
    assert own.normalize("e\u0301\u200d") == "▁é\u200d"
    assert normalizer.normalize_str("e\u0301\u200d") == "e\u0301\u200d"


def test_marian_tokenizer_gets_mask_and_bos_behind_its_own_vocabulary(marian_folder, tmp_path):
    own = MarianTokenizer.from_pretrained(marian_folder)
    tokenizer = load_tokenizer(marian_folder)
    assert isinstance(tokenizer, MarianTokenizer)
    assert tokenizer.padding_side == "right"
    assert sorted([tokenizer.mask_token_id, tokenizer.bos_token_id]) == [len(own), len(own) + 1]
    assert len(tokenizer) == len(own) + 2
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (own.pad_token_id, own.eos_token_id)

    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.mask_token_id, again.bos_token_id) == (tokenizer.mask_token_id, tokenizer.bos_token_id)
    assert len(again) == len(tokenizer)


def test_marian_tokenizer_encodes_each_side_with_its_own_model(marian_folder):
    tokenizer = load_tokenizer(marian_folder)
    own = MarianTokenizer.from_pretrained(marian_folder)
    source, target = TEXTS[0], TEXTS[0][::-1]
    encoded = encode(tokenizer, [source, "  "], [target, "a <mask> </s>"])
    assert encoded["input_ids"] == [own(source)["input_ids"], [tokenizer.eos_token_id]]
    assert encoded["labels"][0] == own(text_target=target)["input_ids"] != own(target)["input_ids"]
    assert tokenizer.decode(encoded["labels"][0], skip_special_tokens=True) == target
    assert encoded["labels"][1].count(tokenizer.eos_token_id) == 1
    assert tokenizer.mask_token_id not in encoded["labels"][1]


def test_marian_tokenizer_is_cut_with_its_eos(marian_folder):
    tokenizer = load_tokenizer(marian_folder)
    long = " ".join(TEXTS * 2)
    encoded = encode(tokenizer, [long], [long], max_source_length=7, max_target_length=5)
    assert len(encoded["input_ids"][0]) == 7 and encoded["input_ids"][0][-1] == tokenizer.eos_token_id
    assert len(encoded["labels"][0]) == 5 and encoded["labels"][0][-1] == tokenizer.eos_token_id
    assert len(encode(tokenizer, [long])["input_ids"][0]) > tokenizer.model_max_length
