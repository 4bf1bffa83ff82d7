"""Short lists: what they list, and that a graph chooses from them as torch does."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from marian_tokenizers import save_marian_tokenizer
from nat_model_tester import save, tiny_model, tiny_student, tiny_teacher
from transformers import AutoTokenizer

from hf_nat.base.utils import read_json
from hf_nat.data.several import pair_features
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import encode_sources
from hf_nat.decoding.shortlist import ShortList, build_short_list, load_short_list
from hf_nat.export import ExportArguments
from hf_nat.steps.export import Export
from hf_nat_cli import main


def test_the_lists_of_a_batch_are_joined_in_rising_order() -> None:
    best = torch.full((6, 2), 4)
    best[1], best[2] = torch.tensor([5, 3]), torch.tensor([0, 5])
    short_list = ShortList(best, torch.tensor([4]), vocab_size=7)
    assert short_list(torch.tensor([[3, 3]])).tolist() == [4]
    assert short_list(torch.tensor([[1, 3]])).tolist() == [3, 4, 5]
    assert short_list(torch.tensor([[1, 3], [2, 3]])).tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize("option", [{"shortlist_best": 9}, {"shortlist_frequent": 9}])
def test_options_of_a_list_that_is_not_made_are_refused(option: dict[str, int]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be left out without `shortlist`, got 9"):
        ExportArguments(model="m", output_dir="o", **option)
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1, got 0"):
        ExportArguments(model="m", output_dir="o", **{name: 0})
    given = ExportArguments(model="m", output_dir="o", shortlist="c", source_lang="a", target_lang="b", **option)
    assert getattr(given, name) == 9


def test_a_token_lists_what_it_is_aligned_with() -> None:
    pairs = [(f"{a} {b}", f"{a.upper()} {b.upper()}") for a in "abcd" for b in "abcd" if a != b] * 3
    tokenizer = train_tokenizer([text for pair in pairs for text in pair], vocab_size=40)
    vocabulary = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    short_list = build_short_list(
        pairs, tokenizer, vocabulary, len(tokenizer), num_best=1, num_frequent=1, kept=[tokenizer.pad_token_id]
    )
    for letter in "abcd":
        (source,), (target,) = (encode_sources(tokenizer, [text]) for text in (letter, letter.upper()))
        listed = short_list(torch.tensor([source[:-1]])).tolist()
        assert target[0] in listed and source[0] in listed, "it may be copied"
        assert len(listed) <= 4 and tokenizer.pad_token_id in listed and tokenizer.eos_token_id not in listed


def test_targets_are_cut_by_their_own_rules(tmp_path: Path) -> None:
    pairs = [("the dog runs", "DER HUND RENNT"), ("the cat sleeps", "DIE KATZE SCHLÄFT")] * 10
    save_marian_tokenizer(tmp_path, *zip(*pairs, strict=True), vocab_size=60)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    short_list = build_short_list(pairs, tokenizer, range(len(tokenizer)), len(tokenizer), num_best=9, num_frequent=1)
    for source, target in pairs[:2]:
        listed = short_list(torch.tensor(encode_sources(tokenizer, [source])))
        assert {*tokenizer(text_target=target)["input_ids"]} <= {*listed.tolist()}
        assert tokenizer.unk_token_id not in listed


@pytest.mark.parametrize("pairs", [[], [{"a": "x", "b": " "}]])
def test_a_corpus_without_targets_has_a_fingerprint_and_makes_no_list(pairs, monkeypatch) -> None:
    rows = Dataset.from_dict({"translation": pairs}, features=pair_features("a", "b"))
    corpus = {"shortlist": "c", "source_lang": "a", "target_lang": "b"}
    monkeypatch.setattr(ExportArguments, "load_shortlist", lambda self: rows)
    args = ExportArguments(model="m", output_dir="o", **corpus)
    monkeypatch.setattr("hf_nat.steps.export.model_fingerprint", lambda model: {})
    inputs = Export(args).inputs()
    assert len(json.loads(json.dumps(inputs))["shortlist"]) == 64
    with pytest.raises(ValueError, match="`shortlist` must be a corpus with at least 1 target"):
        load_short_list(args, None, None)


PAIRS = [("a dog runs", "HUND LÄUFT"), ("the cat sleeps", "KATZE SCHLÄFT"), ("a cat runs", "KATZE LÄUFT")]
LISTED = ["--shortlist", "{split}.{lang}", "--source_lang", "en", "--target_lang", "de"]
SIZES = ["--shortlist_best", "1", "--shortlist_frequent", "1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus and two models of its words."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for lang, side in zip(("en", "de"), zip(*PAIRS, strict=True), strict=True):
            (tmp_path / f"{split}.{lang}").write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair] * 2, vocab_size=60)
    for name, model_type in (("ctc", "ctc_nat"), ("dag", "da_transformer")):
        save(tmp_path / name, tiny_student(model_type, tokenizer), tokenizer)
    return tmp_path


def translated(monkeypatch: pytest.MonkeyPatch, *options: str, model: str = "ctc") -> list[str]:
    """What `hf-nat translate` makes of the sources, each in a batch of its own."""
    text = "".join(f"{source}\n" for source, _ in PAIRS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    options = ("--output", "out.txt", "--max_batch_tokens", "1", *options)
    assert main(["translate", "--model", model, *options]) == 0
    return Path("out.txt").read_text(encoding="utf-8").splitlines()


def test_commands_choose_from_the_short_list_of_a_corpus(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, listed = translated(monkeypatch), translated(monkeypatch, *LISTED, *SIZES)
    assert listed != free
    # One token for each of the source, itself, and one that is always there.
    tokenizer = AutoTokenizer.from_pretrained(place / "ctc")
    for (source, _), output in zip(PAIRS, listed, strict=True):
        written, given = ({*tokenizer(text)["input_ids"]} for text in (output, source))
        assert len(written - given) <= len(given) + 1
    evaluate = ["evaluate", "--model", "ctc", "--corpus", "{split}.{lang}", *LISTED[2:], "--max_batch_tokens", "1"]
    assert main([*evaluate, "--output_dir", "scores", *LISTED[:2], *SIZES]) == 0
    assert (place / "scores/translations.txt").read_text(encoding="utf-8").splitlines() == listed
    record = read_json(place / "scores/metrics.json")["decoding"]
    assert (record["shortlist_best"], record["shortlist_frequent"]) == (1, 1)


def served(monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    """What `hf-nat serve` makes of the sources."""
    pytest.importorskip("fastapi")
    served: list[Callable] = []
    monkeypatch.setattr("hf_nat.serving.app.build_app", lambda translate, *args, **kwargs: served.append(translate))
    monkeypatch.setattr("hf_nat.serving.server.Server", lambda *args: SimpleNamespace(run=lambda sockets: None))
    assert main(["serve", "--model", "ctc", "--port", "0", "--max_batch_tokens", "1", *options]) == 0
    return [translation.text for translation in served[0]([source for source, _ in PAIRS])]


def test_a_server_chooses_from_a_short_list(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(monkeypatch) == translated(monkeypatch)
    assert served(monkeypatch, *LISTED, *SIZES) == translated(monkeypatch, *LISTED, *SIZES)


def test_a_knob_is_tuned_with_a_short_list(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = ["--corpus", "{split}.{lang}", *LISTED[2:], "--split", "test", "--max_batch_tokens", "1"]
    graph = ["--model", "dag", *split, "--graph_decoding", "viterbi"]
    knob = ["--knob", "viterbi_length_penalty", "--values", "1", "--metric", "chrf"]
    assert main(["tune", *graph, *LISTED[:2], *SIZES, *knob]) == 0
    assert main(["evaluate", *graph, *LISTED[:2], *SIZES, "--metrics", "chrf"]) == 0
    (result,) = read_json(place / "dag/tune-viterbi_length_penalty.json")["results"]
    assert result["score"] == read_json(place / "dag/eval-test/metrics.json")["scores"]["chrf"]["score"]
    assert main(["tune", *graph, *knob]) == 2
    assert "shortlist" in capsys.readouterr().err
    beam = ["--model", "ctc", *split, *LISTED[:2], *SIZES, "--knob", "ctc_beam_size", "--metric", "chrf"]
    assert main(["tune", *beam, "--values", "1", "4"]) == 0


def test_confidence_with_a_short_list_has_a_curve_of_its_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "in.txt").write_text("a dog\n")
    split = ["--model", "ctc", "--corpus", "{split}.{lang}", *LISTED[2:], "--split", "test"]
    translate = ["translate", "--model", "ctc", "--input", "in.txt", "--confidence_output", "c.txt"]
    assert main(["calibrate", *split, *LISTED[:2], *SIZES]) == 0
    assert main([*translate, *LISTED, *SIZES]) == 0
    assert 0 <= float(Path("c.txt").read_text()) <= 1
    capsys.readouterr()
    for other in ([], LISTED):
        assert main([*translate, *other]) == 2
        assert "the same options of decoding" in capsys.readouterr().err
    assert main(["evaluate", *split, *LISTED[:2], *SIZES]) == 0
    assert read_json(place / "ctc/eval-test/metrics.json")["reliability"] is not None


def test_another_short_list_is_another_evaluation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--model", "ctc", "--corpus", "{split}.{lang}", *LISTED[2:], "--output_dir", "scores"]
    assert main(command) == 0
    assert main([*command, *LISTED[:2]]) == 2
    assert "shortlist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "ctc", *LISTED[:2]], "`shortlist` must come with `source_lang` and `target_lang`"),
        (["--model", "ctc", "--shortlist_best", "3"], "`shortlist_best` must be left out without `shortlist`"),
        (["--model", "ctc", *LISTED, "--shortlist_best", "0"], "`shortlist_best` must be >= 1, got 0"),
        (["--model", "ctc", "--shortlist", "none/{split}.{lang}", *LISTED[2:]], "none/train.en"),
    ],
)
def test_a_short_list_that_does_not_fit_is_refused(
    options: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "in.txt").write_text("a dog\n")
    assert main(["translate", "--input", "in.txt", *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("dag", ("--graph_decoding", "viterbi")),
        ("dag", ("--graph_decoding", "beam", "--graph_beam_size", "30")),
        ("ctc", ("--ctc_beam_size", "30")),
    ],
)
def test_searches_choose_from_a_short_list(
    place: Path, monkeypatch: pytest.MonkeyPatch, model: str, options: tuple[str, ...]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(place / model)
    listed = translated(monkeypatch, *LISTED, *SIZES, *options, model=model)
    assert listed != translated(monkeypatch, *options, model=model)
    for (source, _), output in zip(PAIRS, listed, strict=True):
        written, given = ({*tokenizer(text)["input_ids"]} for text in (output, source))
        assert len(written - given) <= len(given) + 1


def test_models_without_a_choice_of_tokens_are_refused() -> None:
    args = ExportArguments(model="m", output_dir="o", shortlist="c", source_lang="a", target_lang="b")
    with pytest.raises(ValueError, match="`shortlist` must be left out for an autoregressive model, got 'c'"):
        args.short_list_kwargs(tiny_teacher(), None)
    exported = tiny_model("ctc_nat")
    exported.sessions = {}
    with pytest.raises(ValueError, match="`shortlist` must be left out for an exported model, .*hf-nat export"):
        args.short_list_kwargs(exported, None)
