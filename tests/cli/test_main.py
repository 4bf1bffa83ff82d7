import io
import sys

import pytest

from hf_nat.cli.main import COMMANDS, main
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.models import CMLMConfig, CMLMForConditionalGeneration


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["ab ba", "abba baab"], vocab_size=12)
    config = CMLMConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
    )
    CMLMForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_usage_lists_every_command(capsys):
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(f"  {command} " in usage for command in COMMANDS)


def test_no_command_is_an_error(capsys):
    assert main([]) == 2
    assert "usage: hf-nat" in capsys.readouterr().out


def test_unknown_command_is_named(capsys):
    assert main(["trian"]) == 2
    assert "unknown command 'trian'" in capsys.readouterr().err


def test_broken_rule_is_a_message_not_a_traceback(capsys):
    assert main(["train", "--learning_rte=1"]) == 2
    assert "hf-nat train: Unknown option '--learning_rte=1'" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_its_keys(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: hf-nat {command}" in capsys.readouterr().out


def test_translate_keeps_lines_and_order_from_file_to_file(model, tmp_path):
    (tmp_path / "in.txt").write_text("abba\n\nab ba ab ba\nba\n", encoding="utf-8")
    outputs = []
    for window in (1, 2, 100):
        options = [f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.txt'}", f"--window={window}"]
        assert main(["translate", f"--model={model}", *options]) == 0
        outputs.append((tmp_path / "out.txt").read_text(encoding="utf-8"))
    assert outputs[0] == outputs[1] == outputs[2]
    lines = outputs[0].split("\n")
    assert len(lines) == 5
    assert [bool(line) for line in lines] == [True, False, True, True, False]


def test_translate_reads_standard_input_and_names_a_bad_line(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\nba\n")))
    assert main(["translate", f"--model={model}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\n\xff\n")))
    assert main(["translate", f"--model={model}", "--window=1"]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "`-` line 2 must be UTF-8, got byte 0xff" in captured.err
