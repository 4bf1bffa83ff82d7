"""The import order of DESIGN: nothing imports upwards, and the models can travel to the Hub."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports

import hf_nat


ROOT = Path(hf_nat.__file__).parent
# Lower layers first; packages on one line do not import each other.
LAYERS = [
    ("base",),
    ("models",),
    ("data", "alignment"),
    ("metrics",),
    ("decoding",),
    ("distillation", "training", "export", "evaluation", "analysis"),
    ("cards", "demo", "serving"),
    ("steps",),
    ("hub", "recommendation"),
    ("experiments",),
    ("cli",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def imported_parts(path):
    """Yields the parts of hf_nat (first folder or module) that a file imports."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (name[1] for name in names if name[0] == "hf_nat" and len(name) > 1)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = [*base, *(node.module or "").split(".")] if node.module else [*base, node.names[0].name]
            yield module[0]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_nat":
            yield (node.module.split(".") + [node.names[0].name])[1]


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", [path for path in FILES if part(path) in RANK], ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_imports_upwards(path):
    own = part(path)
    for other in imported_parts(path):
        assert other == own or RANK[other] < RANK[own], f"{own} imports {other}"


def test_every_part_has_a_layer():
    parts = {part(path) for path in FILES} - {"__init__", "__main__"}
    assert parts <= RANK.keys()


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda path: path.name)
def test_models_import_siblings_and_what_transformers_installs_only(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module and "." not in node.module, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            roots = {name.split(".")[0] for name in names}
            installed = {"torch", "transformers", "huggingface_hub", "numpy", *sys.stdlib_module_names}
            assert roots <= installed or (path.name, roots) == ("ctc_search.py", {"numba"}), ast.unparse(node)
    # And numba within a `try`: what `from_pretrained` asks of whoever loads the model with `trust_remote_code`.
    assert "numba" not in get_imports(path)


def test_import_needs_torch_and_transformers_alone():
    blocked = ("datasets", "evaluate", "sacrebleu", "sacremoses", "matplotlib", "jinja2", "accelerate", "markdown")
    program = f"""
import sys
sys.modules.update(dict.fromkeys({blocked}))
import hf_nat
config = hf_nat.VanillaNATConfig(d_model=16, encoder_layers=1, decoder_layers=1)
assert hf_nat.VanillaNATForConditionalGeneration(config).num_parameters() > 0
"""
    subprocess.run([sys.executable, "-c", program], check=True)
