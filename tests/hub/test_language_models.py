"""An n-gram model comes from the Hub with the model that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from nat_model_tester import save, tiny_student

from hf_nat.data.tokenizer import load_tokenizer, train_tokenizer
from hf_nat.decoding import NGramLanguageModel, language_model
from hf_nat.hub.push import PushArguments, push
from hf_nat_cli import main


TEXTS = ["ab ba", "ba ab ab", "ab"]


@pytest.mark.usefixtures("logged_in")
def test_n_grams_of_a_hub_id_are_those_of_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("src", "tgt"):
        Path(f"train.{side}").write_text("".join(f"{text}\n" for text in TEXTS))
    for name, vocab_size in (("own", 12), ("other", 9)):
        tokenizer = train_tokenizer(TEXTS, vocab_size=vocab_size)
        save(tmp_path / name, tiny_student("ctc_nat", tokenizer), tokenizer)
    corpus = ["--corpus={split}.{lang}", "--source_lang=src", "--target_lang=tgt", "--order=2"]
    assert main(["language-model", "--model=own", *corpus]) == 0
    push(PushArguments(folder="own", repo_id="org/own"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="`language_model` must be of the model's own tokenizer"):
        NGramLanguageModel("org/own", load_tokenizer("other"))
    token = load_tokenizer("own")("ba")["input_ids"][0]
    own = {place: load_tokenizer(place) for place in ("own", "org/own")}
    monkeypatch.delattr(language_model, "load_tokenizer")  # Its own is there already; it may need trusted code.
    found = [NGramLanguageModel(place, tokenizer)((), token) for place, tokenizer in own.items()]
    assert found[0] == found[1] < 0
