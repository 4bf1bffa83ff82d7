import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import hf_nat
from hf_nat.models import ARCHITECTURES


PACKAGES = [
    module.name for module in pkgutil.walk_packages(hf_nat.__path__, "hf_nat.") if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["hf_nat", *PACKAGES])
def test_every_module_imports_and_its_all_is_true_and_sorted(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert [member for member in names if not hasattr(module, member)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_architectures_are_public_and_in_the_table_of_the_readme(model_type):
    assert {kind.__name__ for kind in ARCHITECTURES[model_type]} <= set(hf_nat.__all__)
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|.*`{model_type}`.*\|$", readme, flags=re.M)


def test_public_names_have_docstrings():
    missing = [
        name for name in hf_nat.__all__ if callable(getattr(hf_nat, name)) and not getattr(hf_nat, name).__doc__
    ]
    assert missing == []
