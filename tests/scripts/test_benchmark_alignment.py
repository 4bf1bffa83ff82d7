"""The alignment benchmark measures real runs, one process each, and reports what it measured."""

from __future__ import annotations

import importlib
import io
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hf_nat.alignment import align
from hf_nat.base.utils import progress_bar, read_json, write_json


FORWARD, REVERSE, JOINT = SYSTEMS = ["hf_nat forward", "hf_nat reverse", "hf_nat grow-diag-final-and"]
LEXICON = {f"word{i}": f"Wort{i}" for i in range(12)}
SOURCES = [random.Random(i).choices(list(LEXICON), k=2 + i % 6) for i in range(40)]
TARGETS = [[LEXICON[word].lower() for word in source] for source in SOURCES]
TABLE = """\
| system                     | seconds | CPU seconds | peak MB | links | in common with grow-diag-final-and |
| -------------------------- | ------: | ----------: | ------: | ----: | ---------------------------------: |
| hf_nat forward             |     2.0 |         3.0 |      50 | 1,000 |                                    |
| hf_nat grow-diag-final-and |     4.0 |         6.0 |   1,100 | 1,300 |                                    |
| eflomal                    |     9.0 |         9.0 |      10 | 1,200 |                             87.5 % |"""
SCALING = """\
| pairs  | million words |           direction | seconds | CPU seconds | seconds / million words | peak MB |
| ------ | ------------: | ------------------: | ------: | ----------: | ----------------------: | ------: |
| 9,000  |           0.5 |             forward |     1.0 |         2.0 |                     2.0 |      30 |
| 20,000 |           2.0 |             forward |     6.0 |        11.0 |                     3.0 |   1,100 |
| 20,000 |           2.0 | grow-diag-final-and |    12.0 |        22.0 |                     6.0 |   1,500 |"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("benchmark_alignment")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line for 40 pairs, and two more with an empty side; the output is to follow."""
    folder = tmp_path_factory.mktemp("alignment")
    sides = {"en": [*map(" ".join, SOURCES), "", "empty"], "de": [*map(" ".join, TARGETS), "leer", " "]}
    for lang, lines in sides.items():
        (folder / f"train.{lang}").write_text("\n".join(lines).title() + "\n", encoding="utf-8")
    corpus = ["--corpus", str(folder / "{split}.{lang}"), "--source_lang", "en", "--target_lang", "de"]
    return [*corpus, "--threads", "1", "--output"]


@pytest.fixture(scope="module", autouse=True)
def no_peers(benchmark: ModuleType) -> Iterator[None]:
    """Lets the script find no peer, installed or not."""
    missing = benchmark.metadata.PackageNotFoundError

    def version(name: str) -> str:
        if name in benchmark.PEERS:
            raise missing(name)
        return "1.0"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "metadata", SimpleNamespace(version=version, PackageNotFoundError=missing))
        yield


@pytest.fixture(scope="module")
def real(
    benchmark: ModuleType, options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    """What one turn and one size write and print."""
    output = tmp_path_factory.mktemp("output") / "new" / "benchmark.json"
    with redirect_stdout(io.StringIO()) as printed:
        benchmark.main([*options, str(output), "--repeats", "1", "--sizes", "90"])
    return read_json(output), printed.getvalue()


@pytest.fixture
def calls(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Puts a stand-in in the place of the processes: system and number of pairs of each measurement."""
    made: list[tuple[str, int]] = []

    def measure(name: str, folder: Path, threads: int, bar: Any) -> dict[str, float]:
        made.append((name, len((folder / "source").read_text(encoding="utf-8").splitlines())))
        benchmark.write_links(benchmark.links_file(folder, name, benchmark.OURS[name]), [[(0, 0)]] * 40)
        return {"seconds": 2.0, "cpu_seconds": 3.0, "peak_mb": 50.0}

    monkeypatch.setattr(benchmark, "measure", measure)
    return made


@pytest.mark.slow  # processes that each load all libraries
def test_a_real_run_counts_the_links_of_the_aligner(real: tuple[dict[str, Any], str]) -> None:
    result, _ = real
    assert result["corpus"] == {"num_pairs": 40, "left_out": 2, "num_tokens": 2 * sum(map(len, SOURCES))}
    [turn] = result["turns"]
    assert list(turn) == sorted(SYSTEMS)
    for name, kind in zip(SYSTEMS, ("forward", "reverse", "grow-diag-final-and"), strict=True):
        joined = kind if name == JOINT else None
        links = align(SOURCES, TARGETS, reverse=kind == "reverse", symmetrize=joined, device="cpu")
        assert turn[name]["links"] == {kind: sum(map(len, links))}
        assert turn[name]["in_common"] == {kind: 1.0}


@pytest.mark.slow  # processes that each load all libraries
def test_a_real_run_tells_time_memory_and_surroundings(real: tuple[dict[str, Any], str]) -> None:
    result, _ = real
    assert result["environment"]["torch_threads"] == result["settings"]["threads"] == 1
    assert result["environment"]["versions"]["numpy"]
    assert result["settings"]["peers"] == {"eflomal": None, "systran-align": None}
    assert list(result["scaling"]) == ["90"]
    assert result["scaling"]["90"]["num_tokens"] == 4 * sum(map(len, SOURCES)) + 2 * sum(map(len, SOURCES[:10]))
    assert sorted(result["scaling"]["90"]["systems"]) == sorted([FORWARD, JOINT])
    for measured in (*result["turns"][0].values(), *result["scaling"]["90"]["systems"].values()):
        assert 0 < measured["seconds"] < 60
        assert 0 < measured["cpu_seconds"] < 60
        # Neither the imports, some 350 MB, nor what this process has resident.
        assert 0 < measured["peak_mb"] < 150


@pytest.mark.slow  # processes that each load all libraries
def test_a_real_run_prints_the_tables(benchmark: ModuleType, real: tuple[dict[str, Any], str]) -> None:
    result, printed = real
    assert printed == f"{benchmark.markdown_table(result)}\n\n{benchmark.scaling_table(result)}\n"


def test_tables(benchmark: ModuleType) -> None:
    def row(seconds: float, cpu: float, peak: float) -> dict[str, float]:
        return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}

    joint = "grow-diag-final-and"
    turns = [
        {
            FORWARD: row(seconds, 3, 50) | {"links": {"forward": 1000}, "in_common": {"forward": 1.0}},
            JOINT: row(4, 6, 1100) | {"links": {joint: 1300}, "in_common": {joint: 1.0}},
            "eflomal": row(9, 9, 10)
            | {"links": {"forward": 1, "reverse": 2, joint: links}, "in_common": {"forward": 0.1, joint: share}},
        }
        for seconds, links, share in ((100.0, 1300, 0.875), (2.0, 1200, 0.9), (1.0, 1100, 0.5))
    ]
    scaling = {
        "20000": {"num_tokens": 2_000_000, "systems": {JOINT: row(12, 22, 1500), FORWARD: row(6, 11, 1100)}},
        "9000": {"num_tokens": 500_000, "systems": {FORWARD: row(1, 2, 30)}},
    }
    assert benchmark.markdown_table({"turns": turns}) == TABLE
    assert benchmark.scaling_table({"scaling": scaling}) == SCALING


def test_systems_take_turns_and_missing_peers_are_named(
    benchmark: ModuleType,
    options: list[str],
    calls: list[tuple[str, int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    benchmark.main([*options, str(tmp_path / "o.json"), "--repeats", "2"])
    order = [FORWARD, REVERSE, JOINT, REVERSE, JOINT, FORWARD]
    assert calls == [(name, 40) for name in order]
    assert read_json(tmp_path / "o.json")["scaling"] == {}
    captured = capsys.readouterr()
    assert "eflomal is not installed and is left out: pip install --no-deps eflomal" in captured.err
    assert "systran-align is not installed" in captured.err
    assert len(captured.out.splitlines()) == 2 + 3


def test_a_killed_run_goes_on_where_it_stopped(
    benchmark: ModuleType,
    options: list[str],
    calls: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv, measure = [*options, str(tmp_path / "o.json"), "--repeats", "1", "--sizes", "50", "7"], benchmark.measure

    def interrupted(*args: Any) -> dict[str, float]:
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(benchmark, "measure", interrupted)
        benchmark.main(argv)
    assert calls == [(FORWARD, 40), (REVERSE, 40), (JOINT, 40), (FORWARD, 50)]
    benchmark.main(argv)
    assert calls[4:] == [(JOINT, 50), (FORWARD, 7), (JOINT, 7)]
    benchmark.main(argv)
    assert len(calls) == 7
    # More turns and sizes are added to what there is.
    benchmark.main([*options, str(tmp_path / "o.json"), "--repeats", "2", "--sizes", "8"])
    assert len(calls) == 7 + 3 + 2
    result = read_json(tmp_path / "o.json")
    assert (len(result["turns"]), sorted(result["scaling"])) == (2, ["50", "7", "8"])


def test_results_of_other_settings_are_not_overwritten(
    benchmark: ModuleType, options: list[str], calls: list[tuple[str, int]], tmp_path: Path
) -> None:
    output = tmp_path / "o.json"
    benchmark.main([*options, str(output), "--repeats", "1"])
    before = output.read_bytes()
    with pytest.raises(ValueError, match=r"one of the same settings, got '.*o\.json' with .*'threads': 1"):
        benchmark.main([*options, str(output), "--repeats", "2", "--threads", "2"])
    assert output.read_bytes() == before


def test_replicate_repeats_with_noise_and_leaves_the_first_copy(benchmark: ModuleType, tmp_path: Path) -> None:
    lines = [f"wort{i} " + "ein mann liest " * 40 for i in range(50)]
    text = [" ".join(line.split()) for line in lines]
    for side in ("source", "target"):
        (tmp_path / side).write_text("\n".join(text) + "\n", encoding="utf-8")

    def copies(side: str, size: int) -> list[str]:
        num_words = benchmark.replicate(tmp_path / side, tmp_path / "copies", size)
        written = (tmp_path / "copies").read_text(encoding="utf-8").splitlines()
        assert num_words == sum(len(line.split()) for line in written)
        return written

    source = copies("source", 120)
    assert len(source) == 120
    assert source[:50] == text
    assert source == copies("source", 120)
    assert copies("source", 60) == source[:60]
    assert copies("source", 20) == text[:20]
    assert copies("target", 120)[50:] != source[50:]
    pairs = [
        (word, noisy)
        for line, copy in zip((text * 3)[50:120], source[50:], strict=True)
        for word, noisy in zip(line.split(), copy.split(), strict=True)
    ]
    changed = [noisy.removeprefix(word) for word, noisy in pairs if noisy != word]
    assert {*changed} == {*"0123456789"}
    assert len(changed) / len(pairs) == pytest.approx(0.1, abs=0.01)
    assert source[50:100] != source[100:]


def test_in_common_is_intersection_over_union(benchmark: ModuleType) -> None:
    links = [[(0, 0), (1, 1)], [], [(2, 0)]]
    others = [[(1, 1), (1, 2)], [(0, 0)], [(2, 0)]]
    assert benchmark.in_common(links, others) == 2 / 5
    assert benchmark.in_common(links, links) == 1.0
    assert benchmark.in_common([[]], [[]]) == 1.0


def test_the_memory_of_a_child_counts(benchmark: ModuleType) -> None:
    code = "x = bytearray(10**8); print(len(x), flush=True); input()"
    command = ["sh", "-c", f'"{sys.executable}" -c "{code}"; true']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 100 < benchmark.tree_memory_mb(process.pid) < 200
        assert benchmark.memory_mb(process.pid) < 50
        process.communicate("\n")
    assert benchmark.memory_mb(process.pid) == benchmark.tree_memory_mb(process.pid) == 0.0


def test_a_process_that_fails_is_an_error(benchmark: ModuleType, tmp_path: Path) -> None:
    with progress_bar(1, "test") as bar, pytest.raises(RuntimeError, match="'hf_nat forward' must end with.*got 1"):
        benchmark.measure(FORWARD, tmp_path / "missing", 1, bar)


@pytest.mark.parametrize("name", ["eflomal", "systran-align"])
def test_a_peer_aligns_the_same_text(benchmark: ModuleType, tmp_path: Path, name: str) -> None:
    pytest.importorskip(benchmark.PEERS[name])
    for side, lines in (("source", SOURCES), ("target", TARGETS)):
        (tmp_path / side).write_text("".join(f"{' '.join(words)}\n" for words in lines), encoding="utf-8")
    for ours in SYSTEMS:
        benchmark.run_ours(ours, tmp_path)
    with progress_bar(1, "test") as bar:
        measured = benchmark.measure(name, tmp_path, 1, bar)
    assert min(measured.values()) > 0
    compared = benchmark.compare(name, tmp_path)
    kinds = {"grow-diag-final-and"} if name == "systran-align" else {"forward", "reverse", "grow-diag-final-and"}
    assert compared["links"].keys() == compared["in_common"].keys() == kinds
    # Words are translated one by one in order: whoever aligns at all finds the diagonal.
    assert all(share > 0.5 for share in compared["in_common"].values())


def test_a_corpus_without_a_whole_pair_is_an_error(benchmark: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("\n\n", encoding="utf-8")
    (tmp_path / "train.de").write_text("ein\nMann\n", encoding="utf-8")
    corpus = ["--corpus", str(tmp_path / "{split}.{lang}"), "--source_lang", "en", "--target_lang", "de"]
    with pytest.raises(ValueError, match="must have words on both sides, got .* with 2 pairs"):
        benchmark.main([*corpus, "--output", str(tmp_path / "o.json")])


def test_another_json_file_is_not_overwritten(benchmark: ModuleType, options: list[str], tmp_path: Path) -> None:
    write_json(tmp_path / "o.json", {"accuracy": 1.0})
    with pytest.raises(ValueError, match="`output` must be a new file or one of the same settings"):
        benchmark.main([*options, str(tmp_path / "o.json")])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--repeats", "0"], "--repeats, --threads and --sizes must be >= 1, got [0, 1]"),
        (["--threads", "0"], "--repeats, --threads and --sizes must be >= 1, got [3, 0]"),
        (["--sizes", "10", "0"], "--repeats, --threads and --sizes must be >= 1, got [3, 1, 10, 0]"),
        (["--sizes", "10", "10"], "--sizes must be distinct, got [10, 10]"),
        (["--sizes"], "--sizes: expected at least one argument"),
    ],
)
def test_command_line_faults_are_named(
    benchmark: ModuleType, options: list[str], capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([*options, "o.json", *extra])
    assert message in capsys.readouterr().err
