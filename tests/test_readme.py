"""The commands and code blocks of the README run as they stand, only with less data and fewer updates."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hf_nat_cli import COMMANDS, main


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LESS = {
    "toy": ["--train=300", "--validation=10", "--test=10"],
    "train": ["--max_steps=3", "--save_steps=3", "--eval_steps=3", "--use_cpu=true", "--disable_tqdm=true"],
    "distill": ["--max_samples=20", "--num_beams=2", "--max_new_tokens=8"],
    "born-again": [
        "--iterations=1",
        "--num_bootstrap=5",
        "--teacher_options={max_steps: 3, save_steps: 3, eval_steps: 3, use_cpu: true, disable_tqdm: true}",
        "--distill_options={max_samples: 20, num_beams: 2, max_new_tokens: 8}",
        "--student_options={max_steps: 3, save_steps: 3, use_cpu: true, disable_tqdm: true}",
    ],
    "filter": ["--drop", "empty_source"],  # a teacher of 3 updates writes nothing that a stricter rule would keep
    "analyze": ["--num_bootstrap=5"],
    "evaluate": ["--max_samples=5"],
    "tune": ["--max_samples=5"],
    "calibrate": ["--max_samples=5"],
}


# How the script of an exported model is called.
(SCRIPT,) = re.findall(r"`(python translate\.py [^`]*)`", README)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands():
    return [line for block in blocks("bash") for line in block.splitlines() if line]


def run_hf_nat(line, monkeypatch):
    """Runs `[echo TEXT |] hf-nat COMMAND ...`."""
    before, _, after = line.rpartition("|")
    text = shlex.split(before)[1] + "\n" if before else ""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    _, command, *options = shlex.split(after)
    assert main([command, *options, *LESS.get(command, [])]) == 0, line


def test_first_command_is_early_and_the_page_is_short():
    lines = README.splitlines()
    assert len(lines) <= 300
    assert lines.index("```bash") < 39


def test_scripts_exist_and_are_executable():
    scripts = [line.split()[0] for line in commands() if line.startswith("./")]
    assert list(dict.fromkeys(scripts)) == ["./scripts/quickstart.sh", "./scripts/test.sh", "./scripts/launch.sh"]
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


def test_every_command_is_of_a_known_kind():
    known = re.compile(
        rf"(\./scripts/(\w+\.sh|launch\.sh cpu .+)|pip install .+|(echo .+ \| )?hf-nat ({'|'.join(COMMANDS)})\b.*)"
    )
    assert [line for line in commands() if not known.fullmatch(line)] == []


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    for path, _, section in (link.partition("#") for link in links):
        assert (ROOT / path).exists()
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), flags=re.M) if section else []
        assert not section or section in [heading.lower().replace(" ", "-") for heading in headings]


def test_the_blocks_run_in_the_order_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    num_commands = 0
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", README, flags=re.S):
        if language == "python":
            code = re.sub(r'"max_steps": \d+', '"max_steps": 3, "use_cpu": True', block)
            monkeypatch.setattr(sys, "argv", shlex.split(SCRIPT)[1:])
            exec(compile(code, "README.md", "exec"), {})
            continue
        for line in block.splitlines():
            if "hf-nat" in line:
                run_hf_nat(line, monkeypatch)
                num_commands += 1
    assert num_commands >= 15
    assert "Dry run: nothing was sent." in capsys.readouterr().out


def test_checkpoint_block_runs_where_the_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for line in commands():
        if line.startswith(("hf-nat toy", "hf-nat train", "hf-nat distill")):
            run_hf_nat(line, monkeypatch)
    (block,) = (block for block in blocks("python") if "AutoModelForSeq2SeqLM" in block)
    code = "import sys\nsys.modules['hf_nat'] = None\n" + block
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path, env={"HF_HUB_OFFLINE": "1"})


def test_an_exported_model_translates_where_only_runtime_and_tokenizers_are(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for line in commands():
        if "ctc_nat" in line or line.startswith(("hf-nat toy", "hf-nat train configs/toy/teacher", "hf-nat distill")):
            run_hf_nat(line, monkeypatch)
    translated = capsys.readouterr().out.splitlines()[-1]
    (block,) = (block for block in blocks("python") if "onnxruntime" in block)
    blocked = (
        "hf_nat",
        "torch",
        "transformers",
        "datasets",
        "sentencepiece",
        "huggingface_hub",
        "safetensors",
        "onnx",
    )
    without = f"import sys, runpy\nsys.modules.update(dict.fromkeys({blocked}))\ndel sys.argv[0]\n"
    code = f"{without}runpy.run_path(sys.argv[0])"
    (tmp_path / "translate.py").write_text(block, encoding="utf-8")
    command = [sys.executable, "-I", "-c", code, *shlex.split(SCRIPT)[1:]]
    found = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == str([translated])
    card = (tmp_path / "runs/toy/ctc_nat_onnx/README.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)```", card, flags=re.S) == [block]
    # What the run of the model says is said of its graph.
    assert "\n# ctc_nat nano src-tgt\n" in card
    assert "| Targets written by | runs/toy/teacher |" in card and "--backend onnx --quantize int8" in card


@pytest.mark.slow
def test_launched_commands_run_in_two_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    for line in commands()[2:]:
        if line.startswith(("hf-nat toy", "hf-nat train configs/toy/teacher.yaml")):
            run_hf_nat(line, monkeypatch)
    launched = [line for line in commands() if "launch.sh" in line]
    assert len(launched) == 3
    for line in launched:
        command = shlex.split(line)
        less = [option for option in LESS[command[2]] if "use_cpu" not in option]
        subprocess.run([*command, *less], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for place in ("distilled_launched/metrics.json", "teacher/eval-test/metrics.json"):
        assert json.loads((tmp_path / "runs/toy" / place).read_text(encoding="utf-8"))["num_processes"] == 2
    assert (tmp_path / "runs/toy/teacher_launched/model.safetensors").is_file()


@pytest.mark.slow
def test_quickstart_shows_distilled_above_real_for_both_students(tmp_path, monkeypatch):
    from hf_nat.base.utils import read_json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    assert main(["quickstart"]) == 0
    results = read_json(tmp_path / "runs/quickstart/report/results.json")
    systems = {system["name"]: system for system in results["systems"]}
    for student in ("vanilla_nat", "cmlm"):
        real, distilled = (systems[f"{student}_{targets}"] for targets in ("real", "distilled"))
        assert distilled["bleu"] > real["bleu"] + 3
        assert distilled["valid"] > real["valid"] + 0.1
    complexity = {name: corpus["complexity"] for name, corpus in results["corpora"].items()}
    assert complexity["real"] == pytest.approx(complexity["exact"], rel=0.02)
    assert complexity["distilled"] < 0.9 * complexity["real"]
    assert len({speed["name"] for speed in results["speeds"]}) == 4 and results["not_timed"] == []
    assert (tmp_path / "runs/quickstart/report/quickstart.png").stat().st_size > 10_000
