"""The decoding benchmark times what it says, fairly, and reports what it timed."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from nat_model_tester import save, tiny_student
from transformers import BatchEncoding, GenerationConfig, MarianConfig, MarianMTModel

from hf_nat.base.utils import read_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import load_model, translate


SENTENCES = ["a man reads", "a woman reads a long book in the park", "a dog", "the park"]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("benchmark_decoding")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random teacher whose outputs are always 6 tokens long."""
    folder = tmp_path_factory.mktemp("benchmark") / "teacher"
    tokenizer = train_tokenizer(SENTENCES, vocab_size=64)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    start = {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": None}
    torch.manual_seed(0)
    model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), **special, **sides, **sizes, **start))
    never = {"suppress_tokens": list(special.values())}
    model.generation_config = GenerationConfig(max_new_tokens=6, decoder_start_token_id=0, **special, **never)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("greedy=runs/teacher", ("greedy", "runs/teacher", {})),
        ("b=a:num_beams=5,early_stopping=true", ("b", "a", {"num_beams": 5, "early_stopping": True})),
        ("b=a:length_penalty=0.6", ("b", "a", {"length_penalty": 0.6})),
        ("b=C:/teacher", ("b", "C:/teacher", {})),
        ("b=step=3/teacher:num_beams=2", ("b", "step=3/teacher", {"num_beams": 2})),
    ],
)
def test_parse_system(benchmark: ModuleType, text: str, expected: tuple) -> None:
    assert benchmark.parse_system(text) == expected


@pytest.mark.parametrize("text", ["runs/teacher", "=runs/teacher", "name="])
def test_parse_system_without_name_or_path_is_an_error(benchmark: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=f"must be NAME=PATH.*got {text!r}"):
        benchmark.parse_system(text)


class Clock:
    """Stands for `time`: every system's batch takes the seconds that the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class FakeSystem:
    """A system that takes a known time per batch and writes down when it was called."""

    def __init__(self, benchmark: ModuleType, name: str, seconds: float, clock: Clock, calls: list[str]) -> None:
        self.name = name
        self.tokenizer = type("Tokenizer", (), {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2})
        self.model = self
        self.device = torch.device("cpu")
        self.decoding: dict = {}
        self.prepared: list[list[str]] = []
        self._generate = benchmark.System.generate
        self._seconds, self._clock, self._calls = seconds, clock, calls

    def prepare(self, sentences: list[str]) -> dict:
        self.prepared.append(list(sentences))
        return {"rows": len(sentences)}

    def generate(self, batch: dict | None = None, **kwargs: int) -> object:
        if batch is not None:
            return self._generate(self, batch)
        self._calls.append(self.name)
        self._clock.now += self._seconds
        return torch.tensor([[5, 6, 2, 0]] * kwargs["rows"])


@pytest.fixture
def fakes(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[list[FakeSystem], list[str]]:
    """A slow baseline (4 s a batch) and a fast system (1 s a batch)."""
    clock, calls = Clock(), []
    monkeypatch.setattr(sys.modules[benchmark.System.__module__], "time", clock)
    return [FakeSystem(benchmark, name, s, clock, calls) for name, s in (("slow", 4.0), ("fast", 1.0))], calls


def test_measure_numbers_are_those_of_the_clock(benchmark: ModuleType, fakes) -> None:
    measured = benchmark.measure(fakes[0], SENTENCES, batch_size=2, repeats=3)
    assert measured["slow"] == {
        "seconds": [8.0, 8.0, 8.0],
        "ms_per_batch": 4000.0,
        "ms_per_batch_range": [4000.0, 4000.0],
        "sentences_per_second": 0.5,
        "sentences_per_second_range": [0.5, 0.5],
        "speedup": 1.0,
        "speedup_range": [1.0, 1.0],
        "output_tokens_mean": 2.0,
    }
    assert measured["fast"]["speedup"] == 4.0
    assert measured["fast"]["sentences_per_second"] == 2.0
    assert measured["fast"]["ms_per_batch"] == 1000.0


def test_measure_gives_every_system_the_same_sentences_by_length(benchmark: ModuleType, fakes) -> None:
    systems, _ = fakes
    benchmark.measure(systems, SENTENCES, batch_size=3, repeats=1)
    assert systems[0].prepared == systems[1].prepared
    assert systems[0].prepared == [[SENTENCES[1], SENTENCES[0], SENTENCES[3]], [SENTENCES[2]]]


def test_measure_warms_up_and_then_takes_turns(benchmark: ModuleType, fakes) -> None:
    systems, calls = fakes
    benchmark.measure(systems, SENTENCES, batch_size=1, repeats=2)
    warm_up = benchmark.WARM_UP_BATCHES * len(systems)
    assert calls[:warm_up] == ["slow"] * 3 + ["fast"] * 3
    # All batches of a pass follow each other; in the next pass the other system is first.
    number = len(SENTENCES)
    assert calls[warm_up:] == ["slow"] * number + ["fast"] * 2 * number + ["slow"] * number


def test_main_writes_json_and_prints_the_table(
    benchmark: ModuleType, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source.txt").write_text("\n".join([*SENTENCES, "", "not reached"]), encoding="utf-8")
    options = ["--sentences", tmp_path / "source.txt", "--num_sentences", 4, "--repeats", 2, "--batch_sizes", 1, 3]
    systems = [f"greedy={checkpoint}", f"beam2={checkpoint}:num_beams=2"]
    output = tmp_path / "out" / "benchmark.json"
    benchmark.main(["--systems", *systems, *map(str, options), "--output", str(output), "--device", "cpu"])

    result = read_json(output)
    assert result["num_sentences"] == 4
    assert result["systems"]["beam2"]["decoding"] == {"num_beams": 2}
    assert result["systems"]["greedy"]["num_parameters"] == MarianMTModel.from_pretrained(checkpoint).num_parameters()
    assert result["environment"]["model_device"] == "cpu"
    for measured in result["batch_sizes"].values():
        assert measured["greedy"]["speedup"] == 1.0
        assert measured["beam2"]["output_tokens_mean"] == 6.0
        assert all(seconds > 0 for seconds in measured["beam2"]["seconds"])
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith(
        "| system | decoding | batch 1: ms/sentence | speed-up | batch 3: sentences/s | speed-up |"
    )
    assert re.fullmatch(
        r"\| beam2 \| num_beams=2 \| [\d.]+ \([\d.]+ to [\d.]+\) "
        r"\| [\d.]+x \([\d.]+ to [\d.]+\) \| [\d.]+ \| [\d.]+x \(.+\) \| 6\.0 \|",
        table[3],
    )
    assert len({line.count("|") for line in table}) == 1


def test_ctranslate2_decodes_the_same_sentences(benchmark: ModuleType, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    (tmp_path / "source.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    systems = [
        f"torch={checkpoint}:max_new_tokens=5,dtype=float32",
        f"ct2={checkpoint}:backend=ct2,compute_type=int8,num_beams=2,max_new_tokens=5",
    ]
    options = ["--sentences", tmp_path / "source.txt", "--repeats", 1, "--batch_sizes", 2, "--max_batches", 1]
    output = tmp_path / "benchmark.json"
    benchmark.main(["--systems", *systems, *map(str, options), "--output", str(output), "--device", "cpu"])
    result = read_json(output)
    assert result["systems"]["ct2"]["decoding"]["compute_type"] == "int8"
    assert result["batch_sizes"]["2"]["torch"]["output_tokens_mean"] == 5.0
    assert 0 < result["batch_sizes"]["2"]["ct2"]["output_tokens_mean"] <= 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("backend=jax", "`backend` must be one of .*, got 'jax'"),
        ("compute_type=int8", "`compute_type` must be `dtype` under `backend=torch`"),
        ("backend=ct2,dtype=float16", "`dtype` must be `compute_type` under `backend=ct2`"),
        ("backend=openvino,quantize=int8", "`quantize` must be left out under `backend=openvino`"),
        ("backend=onnx,shortlist=corpora/toy", "`shortlist` must come with `backend=torch` or `backend=ct2`"),
        ("shortlist=corpora/toy", "`shortlist` must come with .*, --source_lang and --target_lang, of system 'a'"),
        ("backend=ct2,shortlist=corpora/toy", "`shortlist` must come with .*, --source_lang"),
    ],
)
def test_a_system_that_cannot_be_loaded_so_is_an_error(benchmark: ModuleType, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark.load_system(*benchmark.parse_system(f"a=nowhere:{options}"), "cpu")


@pytest.fixture(scope="module")
def student(checkpoint: Path) -> Path:
    """A random student of the teacher's vocabulary."""
    tokenizer = load_model(checkpoint, device="cpu")[1]
    return save(checkpoint.parent / "student", tiny_student("ctc_nat", tokenizer), tokenizer)


def test_a_student_drafts_for_a_teacher(
    benchmark: ModuleType, checkpoint: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    drafts = f"{checkpoint}:draft={student},collapse_repeats=true,max_new_tokens=6,draft_length"
    systems = [f"greedy={checkpoint}", f"short={drafts}=1", f"any={drafts}=6,draft_beta=64,draft_tau=100"]
    options = ["--sentences", tmp_path / "source.txt", "--repeats", 2, "--batch_sizes", 1, 3, "--device", "cpu"]
    output = tmp_path / "benchmark.json"
    benchmark.main(["--systems", *systems, *map(str, options), "--output", str(output)])
    result, printed = read_json(output), capsys.readouterr().out
    parameters = {name: system["num_parameters"] for name, system in result["systems"].items()}
    assert parameters["short"] == parameters["any"] == parameters["greedy"] + load_model(student)[0].num_parameters()
    assert result["systems"]["short"]["decoding"]["draft"] == str(student)
    for size, measured in result["batch_sizes"].items():
        assert "drafting" not in measured["greedy"]
        assert {measured[name]["output_tokens_mean"] for name in ("greedy", "short")} == {6}
        short, loose = measured["short"]["drafting"], measured["any"]["drafting"]
        # A call accepts what agrees of a block of one, and writes one token of its own.
        assert 3 <= short["teacher_calls_mean"] <= 6 and short["accepted_length_mean"] <= 1
        assert loose["teacher_calls_mean"] < short["teacher_calls_mean"] and loose["accepted_length_mean"] > 1
        assert f"\nshort, batch {size}: {short['teacher_calls_mean']:.2f} calls of the teacher a sentence, " in printed


def test_what_drafts_counts_no_warm_up(benchmark: ModuleType, checkpoint: Path, student: Path) -> None:
    system = benchmark.load_system(*benchmark.parse_system(f"a={checkpoint}:draft={student}"), "cpu")
    benchmark.measure([system], SENTENCES, batch_size=2, repeats=3)
    assert system.drafted.num_sentences == 3 * len(SENTENCES)
    assert [file.parent for file in system.files] == [checkpoint, student]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("draft=CHECKPOINT", "`draft` must be a NAT model, got a MarianMTModel"),
        ("draft_length=3", "`draft_length` must be left out without `draft`"),
        ("draft=STUDENT,num_beams=2", "`num_beams` must be 1 with `draft`"),
        ("draft=STUDENT,draft_tau=2", "`draft_tau` must be left out where `draft_beta` is 1"),
        ("backend=ct2,draft=STUDENT", "`draft` must be left out under `backend=ct2`"),
    ],
)
def test_drafts_that_cannot_be_are_errors(
    benchmark: ModuleType, checkpoint: Path, student: Path, tmp_path: Path, options: str, message: str
) -> None:
    if "ct2" in options:
        pytest.importorskip("ctranslate2")
    options = options.replace("CHECKPOINT", str(checkpoint)).replace("STUDENT", str(student))
    with pytest.raises(ValueError, match=message):
        benchmark.load_system(*benchmark.parse_system(f"a={checkpoint}:{options}"), "cpu", tmp_path)


def test_measure_takes_batches_of_all_lengths(benchmark: ModuleType, fakes) -> None:
    systems, _ = fakes
    measured = benchmark.measure(systems, SENTENCES, batch_size=1, repeats=1, max_batches=2)
    assert measured["fast"]["seconds"] == [2.0] and measured["fast"]["sentences_per_second"] == 1.0
    assert [batch for (batch,) in systems[0].prepared] == [SENTENCES[1], SENTENCES[3]]


def test_quality_of_each_system(benchmark: ModuleType, checkpoint: Path, tmp_path: Path, capsys) -> None:
    """Scores are of the whole split, in its order."""
    pytest.importorskip("ctranslate2")
    model, tokenizer = load_model(checkpoint, device="cpu")
    expected = translate(model, tokenizer, SENTENCES, max_new_tokens=6)
    for split, targets in (("test", [output.text for output in expected]), ("train", SENTENCES[::-1])):
        for lang, lines in (("en", SENTENCES), ("de", targets)):
            (tmp_path / f"{split}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = str(tmp_path / "{split}.{lang}")
    short = f"short={checkpoint}:backend=ct2,compute_type=int8,max_new_tokens=6,shortlist={corpus}"
    argv = ["--systems", f"torch={checkpoint}", f"ct2={checkpoint}:backend=ct2,max_new_tokens=6", short]
    argv += ["--corpus", corpus, "--source_lang", "en", "--target_lang", "de", "--num_sentences", "2"]
    argv += ["--repeats", "1", "--batch_sizes", "2", "--threads", "1", "--quality"]
    benchmark.main([*argv, "--output", str(tmp_path / "benchmark.json"), "--device", "cpu"])
    result = read_json(tmp_path / "benchmark.json")
    assert (result["num_sentences"], result["num_scored"]) == (2, 4)
    systems = result["systems"]
    assert systems["torch"]["quality"]["chrf"]["score"] == pytest.approx(100)
    precisions = {name: system["precision"] for name, system in systems.items()}
    assert precisions == {"torch": "float32", "ct2": "float32", "short": "int8_float32"}
    assert len({system["num_parameters"] for system in systems.values()}) == 1
    # A list of one sentence is another than that of a batch.
    assert [name for name, system in systems.items() if benchmark.ALONE in system] == ["short"]
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in table[0].split("|")[1:-1]] == ["system", "precision", "BLEU", "chrF"]
    assert len(table) == 5
    assert [len(re.findall("; alone [0-9.]+ ", row)) for row in table] == [0, 0, 0, 0, 2]


def test_quality_compares_each_sentence_with_its_own_reference(benchmark: ModuleType, checkpoint: Path) -> None:
    """A system that repeats its source is perfect, in whichever order the sentences are translated."""
    _, tokenizer = load_model(checkpoint, device="cpu")

    class Echo:
        def __init__(self) -> None:
            self.tokenizer = tokenizer

        def prepare(self, sentences: list[str]) -> list[list[int]]:
            return tokenizer(sentences, add_special_tokens=False)["input_ids"]

        def generate(self, batch: list[list[int]]) -> tuple[float, list[list[int]]]:
            return 0.0, batch

    scores = benchmark.quality(Echo(), [(sentence, sentence) for sentence in SENTENCES], "de", batch_size=3)
    assert scores["chrf"]["score"] == pytest.approx(100)


@pytest.mark.slow
def test_footprint_is_that_of_a_process_of_its_own(
    benchmark: ModuleType, checkpoint: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "source.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    argv = ["--systems", f"a={checkpoint}", "--sentences", str(tmp_path / "source.txt"), "--repeats", "1"]
    argv += ["--batch_sizes", "2", "--footprint", "--device", "cpu", "--output", str(tmp_path / "benchmark.json")]
    benchmark.main(argv)
    found = read_json(tmp_path / "benchmark.json")["systems"]["a"]["footprint"]
    assert found["size_mb"] == pytest.approx((checkpoint / "model.safetensors").stat().st_size / 1e6)
    assert found["start_seconds"] > 0 and 0 < found["libraries_mb"] <= found["peak_mb"]
    heads = ["system", "precision", "files, MB", "peak memory, MB", "libraries of it", "start, s"]
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in table[0].split("|")[1:-1]] == heads


def test_main_reads_a_corpus(benchmark: ModuleType, checkpoint: Path, tmp_path: Path) -> None:
    for lang in ("en", "de"):
        (tmp_path / f"test.{lang}").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    corpus = ["--corpus", str(tmp_path / "{split}.{lang}"), "--source_lang", "en", "--target_lang", "de"]
    speed = ["--num_sentences", "3", "--repeats", "1", "--batch_sizes", "2"]
    output = tmp_path / "benchmark.json"
    benchmark.main(["--systems", f"a={checkpoint}", *corpus, *speed, "--output", str(output)])
    assert read_json(output)["num_sentences"] == 3


def test_generate_cuts_a_source_longer_than_the_positions(benchmark: ModuleType, checkpoint: Path) -> None:
    system = benchmark.System("a", str(checkpoint), {}, *load_model(checkpoint, device="cpu"))
    batch = system.prepare(["a man reads " * 40, "a dog"])
    assert isinstance(batch, BatchEncoding)
    assert batch["input_ids"].shape == (2, 64)
    assert [len(row) for row in system.generate(batch)[1]] == [6, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "x"], "--corpus needs --source_lang and --target_lang"),
        (["--sentences", "x", "--repeats", "0"], "must be >= 1"),
        (["--sentences", "x", "--batch_sizes", "4", "0"], "must be >= 1"),
        (["--sentences", "x", "--max_batches", "0"], "must be >= 1"),
        (["--sentences", "x", "--threads", "0"], "must be >= 1"),
        (["--sentences", "x", "--quality"], "--quality needs --corpus"),
        ([], "one of the arguments --sentences --corpus is required"),
    ],
)
def test_command_line_faults_are_named(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--systems", "a=b", *options, "--output", "o.json"])
    assert message in capsys.readouterr().err


def test_main_without_sentences_is_an_error(benchmark: ModuleType, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"got none in '.*empty\.txt'"):
        benchmark.main(
            ["--systems", f"a={checkpoint}", "--sentences", str(tmp_path / "empty.txt"), "--output", "o.json"]
        )


def test_main_two_systems_of_one_name_are_an_error(benchmark: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"distinct, got \['a', 'a'\]"):
        benchmark.main(["--systems", "a=x", "a=y", "--sentences", "s.txt", "--output", "o.json"])
