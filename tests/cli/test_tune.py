import json
import re

import pytest
from nat_model_tester import save, tiny_student

from hf_nat.data.tokenizer import train_tokenizer
from hf_nat_cli import main


@pytest.fixture
def options(tmp_path):
    tokenizer = train_tokenizer(["ab ba", "abba baab"], vocab_size=12)
    folder = save(tmp_path / "model", tiny_student("insertion_transformer", tokenizer), tokenizer)
    row = json.dumps({"translation": {"src": "ab ba", "tgt": "ba ab"}})
    (tmp_path / "validation.jsonl").write_text(f"{row}\n{row}\n")
    return [f"--model={folder}", f"--corpus={tmp_path}/{{split}}.jsonl", "--source_lang=src", "--target_lang=tgt"]


def test_tune_prints_the_scores_and_brings_the_card_up_to_date(options, tmp_path, capsys):
    assert main(["tune", *options, "--values", "0.5", "1.5", "--metric=chrf"]) == 0
    header, *rows, signature, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["eos_penalty", "chrf", "seconds", "rounds"]
    assert [row.split()[0] for row in rows] == ["0.5", "1.5"]
    assert sum(row.endswith("<- best") for row in rows) == 1
    assert signature.startswith("2 sentences, chrF2|")
    best = re.search(r"`eos_penalty` is now (\S+) in", last).group(1)
    assert next(row for row in rows if row.endswith("best")).split()[0] == best
    assert f"`eos_penalty={best}`" in (tmp_path / "model" / "README.md").read_text()


def test_unknown_knob_is_a_message(options, capsys):
    assert main(["tune", *options, "--knob=beam"]) == 2
    assert "hf-nat tune: `knob` must be one of" in capsys.readouterr().err
