import importlib
import pkgutil

import pytest

import hf_nat


PACKAGES = [
    module.name for module in pkgutil.walk_packages(hf_nat.__path__, "hf_nat.") if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["hf_nat", *PACKAGES])
def test_every_module_imports_and_its_all_is_true_and_sorted(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert [member for member in names if not hasattr(module, member)] == []
    assert len(set(names)) == len(names)


def test_public_names_have_docstrings():
    missing = [
        name for name in hf_nat.__all__ if callable(getattr(hf_nat, name)) and not getattr(hf_nat, name).__doc__
    ]
    assert missing == []
