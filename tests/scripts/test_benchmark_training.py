"""The training benchmark measures what it says, on the same batches, and reports what it measured."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from hf_nat.base.utils import read_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.models import size_config


SMALL = ["--size", "nano", "--vocab_size", "50", "--max_tokens", "250", "--num_batches", "2", "--output", "o.json"]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("benchmark_training")


@pytest.fixture
def args(benchmark: ModuleType) -> argparse.Namespace:
    return benchmark.parse_arguments(SMALL)


class FakeTrainee:
    """A trainee whose updates take a known time, and that writes down when they were."""

    def __init__(self, name: str, seconds: float, clock: SimpleNamespace, calls: list[tuple[str, int]]) -> None:
        self.name, self._seconds, self._clock, self._calls = name, seconds, clock, calls
        self.flops: list[int] = []
        self.seconds: list[float] = []
        self.peak_bytes = 0

    def update(self, batch: int) -> None:
        self._calls.append((self.name, batch))
        self._clock.now += self._seconds
        torch.ones(10, 20).mm(torch.ones(20, 30)).addmm_(torch.ones(10, 5), torch.ones(5, 30))

    def resident_bytes(self) -> int:
        return 1000


@pytest.fixture
def measured(
    benchmark: ModuleType, args: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[FakeTrainee], list[tuple[str, int]], float]:
    """A slow and a fast trainee after three updates of each of two batches; the machine's product takes 1 s."""
    clock, calls = SimpleNamespace(now=0.0), []
    clock.process_time = lambda: clock.now
    real_mm = torch.mm

    def mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        clock.now += 1.0
        return real_mm(a[:1], b)

    monkeypatch.setattr(benchmark, "time", clock)
    monkeypatch.setattr(torch, "mm", mm)
    trainees = [FakeTrainee("slow", 4.0, clock, calls), FakeTrainee("fast", 2.0, clock, calls)]
    args.repeats = 3
    return trainees, calls, benchmark.measure(trainees, [0, 1], args)


def test_measure_warms_up_and_then_takes_turns(measured) -> None:
    trainees, calls, _ = measured
    # Both batches for the FLOPs, the larger one for the memory.
    assert calls[:6] == [("slow", 0), ("slow", 1), ("slow", 0), ("fast", 0), ("fast", 1), ("fast", 0)]
    timed = [tuple(calls[i : i + 2]) for i in range(6, len(calls), 2)]
    assert timed == [(("slow", 0), ("fast", 0)), (("fast", 1), ("slow", 1))] * 3
    assert [trainee.seconds for trainee in trainees] == [[4.0] * 6, [2.0] * 6]


def test_measure_counts_every_product_and_the_largest_memory(measured) -> None:
    trainees, _, matmul_rate = measured
    assert matmul_rate == 2 * 2048**3
    for trainee in trainees:
        assert trainee.flops == [2 * 10 * 20 * 30 + 2 * 10 * 5 * 30] * 2
        # 1,000 bytes before; then first the factors and their product, or the second factors and the product.
        assert trainee.peak_bytes == 1000 + 4 * (10 * 20 + 20 * 30 + 10 * 30)


def test_summary_compares_updates_of_the_same_batch(benchmark: ModuleType) -> None:
    model = SimpleNamespace(num_parameters=lambda: 7)
    base, other = (benchmark.Trainee.__new__(benchmark.Trainee) for _ in range(2))
    vars(base).update(model=model, seconds=[2.0, 4.0, 2.0, 400.0], flops=[10, 20], peak_bytes=100)
    vars(other).update(model=model, seconds=[1.0, 2.0, 1.0, 100.0], flops=[30, 60], peak_bytes=150)
    row = benchmark.summary(other, base, [100, 300], matmul_rate=60.0)
    assert row == {
        "num_parameters": 7,
        "seconds": [1.0, 2.0, 1.0, 100.0],
        "target_tokens_per_second": 100.0,
        "speed_ratio": 2.0,
        "flops_per_update": 45,
        "matmul_share": 0.5,
        "peak_bytes": 150,
        "memory_ratio": 1.5,
    }
    assert benchmark.summary(base, base, [100, 300], matmul_rate=60.0)["speed_ratio"] == 1.0


def test_peak_growth_is_the_high_water_mark(benchmark: ModuleType) -> None:
    def call() -> None:
        first = torch.ones(1000)
        second = torch.ones(3000)
        del first
        third = torch.ones(500)
        del second, third
        torch.ones(2000)

    # 16,000 bytes after the second; after the third there are 14,000.
    assert benchmark.peak_growth(call, torch.device("cpu")) == pytest.approx(16_000, abs=16)
    assert benchmark.peak_growth(lambda: None, torch.device("cpu")) == 0


def test_flops_of_the_vanilla_student_are_those_of_its_shapes(benchmark: ModuleType, args: argparse.Namespace) -> None:
    trainee, batch = benchmark.new_trainee("vanilla_nat", args), benchmark.make_batches([(9, 7), (5, 8)], args)[0]
    args.repeats = 1
    benchmark.measure([trainee], [batch], args)
    size = size_config("nano")
    d, ffn, layers, rows, source, target = size["d_model"], size["encoder_ffn_dim"], size["encoder_layers"], 2, 9, 8
    encoder = source * (4 * d * d + 2 * d * ffn) + 2 * source**2 * d
    decoder = target * (6 * d * d + 2 * d * ffn) + source * 2 * d * d + 2 * target * (target + source) * d
    words, lengths = benchmark.num_targets(batch) * d * args.vocab_size, rows * d * 256
    # Forward, gradient of the input, gradient of the weight: 2 FLOPs for each product of two numbers.
    assert trainee.flops == [3 * 2 * (rows * layers * (encoder + decoder) + words + lengths)]


@pytest.mark.parametrize("name", ["marian", "iterative_nat"])
def test_update_trains_and_leaves_weights_and_moments(
    benchmark: ModuleType, args: argparse.Namespace, name: str
) -> None:
    trainee, batch = benchmark.new_trainee(name, args), benchmark.make_batches([(9, 7), (5, 8)], args)[0]
    before = {key: value.clone() for key, value in trainee.model.named_parameters()}
    trainee.update(batch)
    after = dict(trainee.model.named_parameters())
    assert trainee.model.training
    assert not torch.equal(after["model.decoder.layers.0.fc1.weight"], before["model.decoder.layers.0.fc1.weight"])
    assert all(parameter.grad is None for parameter in after.values())
    trained = [parameter for parameter in after.values() if parameter.requires_grad]
    frozen = sum(parameter.nbytes for parameter in after.values()) - sum(p.nbytes for p in trained)
    buffers = sum(buffer.nbytes for buffer in trainee.model.buffers())
    moments = sum(4 + 2 * parameter.nbytes for parameter in trained)
    assert trainee.resident_bytes() == sum(p.nbytes for p in trained) + frozen + buffers + moments


def test_update_gives_the_teacher_the_loss_of_the_trainer(benchmark: ModuleType, args: argparse.Namespace) -> None:
    trainee, batch = benchmark.new_trainee("marian", args), benchmark.make_batches([(9, 7), (5, 8)], args)[0]
    losses: list[torch.Tensor] = []
    teacher_loss = trainee.teacher_loss
    trainee.teacher_loss = lambda *inputs: losses.append(teacher_loss(*inputs)) or losses[-1]
    trainee.model.eval()
    batch["labels"][0, 0] = 40
    labels = batch["labels"]
    logits = trainee.model(**{**batch, "labels": labels}).logits.detach()
    trainee.update(batch)
    log_probs = logits.log_softmax(dim=2)
    gold = log_probs.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    expected = -(0.9 * gold + 0.1 * log_probs.mean(dim=2))[labels.ne(-100)].mean()
    assert_close(losses[0].detach(), expected)


def test_batches_keep_the_budget_and_start_with_the_most_tokens(
    benchmark: ModuleType, args: argparse.Namespace
) -> None:
    args.max_tokens, args.num_batches = 120, 5
    for compile, multiple in ((False, 1), (True, 32)):
        args.compile = compile
        batches = benchmark.make_batches([(n, 26 - n) for n in range(2, 25)] * 4, args)
        assert len(batches) == 5
        tokens = [int(batch["labels"].ne(-100).sum()) for batch in batches]
        assert tokens == sorted(tokens, reverse=True) == [benchmark.num_targets(batch) for batch in batches]
        for batch in batches:
            input_ids, labels = batch["input_ids"], batch["labels"]
            assert input_ids.shape[1] % multiple == labels.shape[1] % multiple == 0
            assert len(labels) * max(batch["attention_mask"].sum(1).max(), labels.ne(-100).sum(1).max()) <= 120
            # Source and target of a row are 26 tokens together, as given; each side ends with its only EOS.
            assert (input_ids.ne(0).sum(1) + labels.ne(-100).sum(1)).tolist() == [26] * len(labels)
            for side, pad in ((input_ids, 0), (labels, -100)):
                assert side.eq(2).sum(1).eq(1).all()
                ends = side.ne(pad).sum(1, keepdim=True) - 1
                assert side.gather(1, ends).eq(2).all()


def test_synthetic_lengths_are_as_documented(benchmark: ModuleType) -> None:
    lengths = torch.tensor(benchmark.synthetic_lengths(20_000)).float()
    assert lengths.median(dim=0).values.tolist() == pytest.approx([25, 25], abs=1)
    assert lengths.quantile(0.99, dim=0).tolist() == pytest.approx([85, 87], abs=4)
    assert lengths.min() >= 2 and lengths.max() == 201


def test_main_writes_json_and_prints_the_table(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "benchmark.json"
    argv = [*SMALL[:-1], str(output), "--repeats", "1", "--architectures", "vanilla_nat", "iterative_nat"]
    benchmark.main(argv)
    result = read_json(output)
    assert result["settings"]["max_tokens"] == 250
    assert result["matmul_flops_per_second"] > 0
    assert result["environment"]["versions"]["torch"] == torch.__version__
    vanilla, refined = (result["architectures"][name] for name in ("vanilla_nat", "iterative_nat"))
    assert vanilla["speed_ratio"] == vanilla["memory_ratio"] == 1.0
    assert len(refined["seconds"]) == len(result["batches"]) == len(result["target_tokens"]) == 2
    # Four decoder passes in place of one.
    assert 2 < refined["flops_per_update"] / vanilla["flops_per_update"] < 4
    assert refined["memory_ratio"] == refined["peak_bytes"] / vanilla["peak_bytes"] > 1
    table = capsys.readouterr().out.splitlines()
    assert re.match(r"\| architecture +\| target tokens/s \| +speed \| peak MB \| memory \|", table[0])
    assert [line.split()[1] for line in table[2:]] == ["vanilla_nat", "iterative_nat"]
    assert f"{refined['memory_ratio']:.2f}x" in table[3]


def test_rows_with_glancing_are_those_that_can_have_it(benchmark: ModuleType, args: argparse.Namespace) -> None:
    assert set(args.architectures) > {"vanilla_nat+glancing", "ctc_nat+glancing", "da_transformer+glancing"}
    for name in ("vanilla_nat", "vanilla_nat+glancing"):
        model = benchmark.new_trainee(name, args).model
        assert (model.glancing is not None) == name.endswith("+glancing")


def test_main_takes_the_lengths_of_a_corpus(benchmark: ModuleType, tmp_path: Path) -> None:
    sentences = ["a man reads", "a woman reads a long book in the park", "a dog", "the park"]
    for lang in ("en", "de"):
        (tmp_path / f"train.{lang}").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    tokenizer = train_tokenizer(sentences, vocab_size=64)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    options = ["--corpus", str(tmp_path / "{split}.{lang}"), "--source_lang", "en", "--target_lang", "de"]
    args = benchmark.parse_arguments([*SMALL, *options, "--tokenizer", str(tmp_path / "tokenizer")])
    lengths = [len(tokenizer(sentence)["input_ids"]) for sentence in sentences]
    assert benchmark.corpus_lengths(args) == [(length, length) for length in lengths]


@pytest.mark.slow
def test_a_compiled_model_runs(benchmark: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "benchmark.json"
    options = ["--compile", "--repeats", "1", "--num_batches", "1", "--architectures", "vanilla_nat"]
    benchmark.main([*SMALL[:-1], str(output), *options])
    assert all(shape[1] % 32 == 0 for batch in read_json(output)["batches"] for shape in batch.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--architectures", "cmlm", "transformer"], "invalid choice: 'transformer'"),
        (["--architectures", "cmlm", "cmlm"], "must be distinct, got ['cmlm', 'cmlm']"),
        (["--corpus", "x", "--source_lang", "en"], "--corpus needs --source_lang, --target_lang and --tokenizer"),
        (["--repeats", "0"], "--num_batches and --repeats must be >= 1"),
        (["--num_batches", "0"], "--num_batches and --repeats must be >= 1"),
    ],
)
def test_command_line_faults_are_named(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([*SMALL, *options])
    assert message in capsys.readouterr().err
