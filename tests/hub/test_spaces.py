"""Spaces run with what they hold: page, package, checkpoints."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
from hub_server import TOKEN
from huggingface_hub import RepoCard

import hf_nat.metrics
from hf_nat.hub.push import PushArguments, push
from hf_nat.hub.spaces import write_browser_space, write_demo_space, write_evaluate_space
from hf_nat_cli import main


MODULES = sorted(
    path for path in (Path(hf_nat.metrics.__file__).parent / "evaluate_modules").iterdir() if path.is_dir()
)
LOAD = """
import json, sys
import evaluate
import hf_nat
metric = evaluate.load(sys.argv[1], **json.loads(sys.argv[2]))
print(hf_nat.__file__)
print(json.dumps(metric.compute(predictions=["a dog runs fast"], references=["a dog runs fast"], target_lang="en")))
"""


def run(folder: Path, *argv: str, **variables: str) -> list[str]:
    """Runs a program in a folder, which is the first place that it imports from."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    process = subprocess.run([sys.executable, *argv], cwd=folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_evaluate_module_has_a_space(module: Path, tmp_path: Path) -> None:
    write_evaluate_space(module, tmp_path / "space", f"owner/nat-{module.name}")
    ast.parse((tmp_path / "space/app.py").read_text(encoding="utf-8"))
    assert (tmp_path / f"space/nat-{module.name}.py").read_bytes() == (module / f"{module.name}.py").read_bytes()
    card = RepoCard.load(tmp_path / "space/README.md")
    assert card.data.sdk == "gradio" and card.data.app_file == "app.py"
    kind = evaluate.load(str(module)).module_type
    assert card.data.tags == ["evaluate", kind]
    assert f'evaluate.load("owner/nat-{module.name}"' in card.text
    requirements = (tmp_path / "space/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("torch") for line in requirements)
    assert not any(";" in line or line.startswith(("pytest", "gradio")) for line in requirements)


@pytest.mark.usefixtures("logged_in")
def test_pushed_evaluate_module_loads_from_the_hub_and_from_its_own_folder(hub, tmp_path: Path, capsys) -> None:
    module = next(path for path in MODULES if path.name == "bleu")
    plan = push(PushArguments(str(module), "owner/nat-bleu"))
    assert plan.repo_type == "space" and hub.repositories["spaces/owner/nat-bleu"].sdk == "gradio"
    files = hub.files("spaces/owner/nat-bleu")
    assert {"README.md", "app.py", "requirements.txt", "nat-bleu.py", "hf_nat/__init__.py"} <= files.keys()
    assert not [path for path in files if "__pycache__" in path]
    for path, data in files.items():
        (tmp_path / "space" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / path).write_bytes(data)
    online = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    by_hub = run(MODULES[0].parents[3], "-c", LOAD, "owner/nat-bleu", '{"module_type": "metric"}', **online)
    by_folder = run(tmp_path / "space", "-c", LOAD, "./nat-bleu.py", "{}", HF_HOME=str(tmp_path / "cache"))
    assert by_folder[0] == str(tmp_path / "space/hf_nat/__init__.py") != by_hub[0]
    for printed in (by_hub, by_folder):
        assert json.loads(printed[1])["bleu"] == pytest.approx(100.0)


def test_demo_space_holds_local_checkpoints_and_is_pushed(
    model_folder: Path, student_folders, tmp_path, capsys
) -> None:
    student = next(path for path in student_folders if path.name == "cmlm")
    (model_folder / "checkpoint-10").mkdir()
    (model_folder / "checkpoint-10/optimizer.pt").write_bytes(b"x")
    space = tmp_path / "space"
    options = ["--max_iterations", "4", "--examples", "a 'man' reads", "--space_dir", str(space)]
    assert main(["demo", "--model", str(student), "--teacher", str(model_folder), *options]) == 0
    assert f"hf-nat push --folder {space}" in capsys.readouterr().out
    for name, folder in (("model", student), ("teacher", model_folder)):
        assert (space / name / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not (space / "teacher/checkpoint-10").exists()
    # The page gets these arguments; Gradio need not be there to see it.
    program = (space / "app.py").read_text(encoding="utf-8")
    recorder = "import hf_nat.demo.app as app\nfrom unittest.mock import MagicMock\napp.build_demo = MagicMock()\n"
    printed = run(space, "-c", recorder + program + "\nprint(app.build_demo.call_args)\nprint(app.__file__)")
    assert "call('model', 'teacher', decoding=DecodingArguments(" in printed[0]
    assert "max_iterations=4" in printed[0] and """examples=["a 'man' reads"]""" in printed[0]
    assert printed[1] == str(space / "hf_nat/demo/app.py")
    plan = push(PushArguments(str(space), "owner/demo", dry_run=True))
    assert plan.repo_type == "space" and {"app.py", "README.md", "model/config.json"} <= plan.files.keys()


def test_a_module_of_others_is_not_executed(tmp_path: Path) -> None:
    module = tmp_path / "mine"
    module.mkdir()
    (module / "mine.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match="`trust_remote_code` must be true for .*executing mine.py"):
        push(PushArguments(str(module), "owner/mine", dry_run=True))
    with pytest.raises(SystemExit, match="executed"):
        push(PushArguments(str(module), "owner/mine", dry_run=True, trust_remote_code=True))
    (module / "data").mkdir()
    (module / "data/train-00000-of-00001.parquet").write_bytes(b"x")
    (module / "README.md").write_text("a corpus")
    assert push(PushArguments(str(module), "owner/mine", dry_run=True)).repo_type == "dataset"
    with pytest.raises(ValueError, match="`trust_remote_code` must be left out for what does not become the Space"):
        push(PushArguments(str(module), "owner/mine", dry_run=True, trust_remote_code=True))


def test_a_space_holds_nothing_from_behind_links(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (model_folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"`model` must hold plain files.*notes.txt \(a link out.*Take them away\.$"):
        write_demo_space(tmp_path / "space", str(model_folder), None, {}, [])
    with pytest.raises(ValueError, match="`model` must hold plain files"):
        write_browser_space(tmp_path / "space", model_folder, [])
    assert not (tmp_path / "space").exists()


@pytest.mark.parametrize("name", ["reranker", "draft", "ensemble", "language_model", "terms"])
def test_what_takes_part_in_decoding_and_lies_here_has_no_space(name: str, tmp_path: Path) -> None:
    place = str(tmp_path)
    decoding = {name: ["owner/model", place] if name == "ensemble" else place}
    with pytest.raises(ValueError, match=f"`{name}` must be on the Hub for a Space, got '{place}'"):
        write_demo_space(tmp_path / "space", "owner/model", None, decoding, [])
    assert not (tmp_path / "space").exists()


def test_demo_space_names_models_on_the_hub(tmp_path: Path) -> None:
    write_demo_space(tmp_path / "space", "owner/student", None, {}, [])
    card = RepoCard.load(tmp_path / "space/README.md")
    assert card.data.models == ["owner/student"] and "Beside it" not in card.text
    assert "build_demo('owner/student', None" in (tmp_path / "space/app.py").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="needs a new folder"):
        write_demo_space(tmp_path / "space", "owner/student", None, {}, [])
