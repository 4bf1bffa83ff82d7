"""transformers' own common model tests, from the source distribution of the installed version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import transformers


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# What the distribution leaves out of its `tests`, and the common tests import: enough to import them, no test.
MISSING = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A folder whose `tests` are those of transformers."""
    package = f"transformers=={transformers.__version__}"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(tmp_path)]
    download = [sys.executable, "-m", "pip", "download", *options, package]
    result = subprocess.run(download, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"needs the source distribution of {package}: {result.stderr[-200:]}")
    with tarfile.open(next(tmp_path.glob("transformers-*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = next(path for path in tmp_path.glob("transformers-*") if path.is_dir())
    for name, text in MISSING.items():
        path = folder / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for path in (folder / "tests", *(folder / "tests").iterdir()):
        if path.is_dir():
            (path / "__init__.py").touch()
    return folder


def test_common_tests_pass_for_every_architecture(distribution: Path) -> None:
    suite = Path(__file__).with_name("transformers_suite.py")
    path = os.pathsep.join(map(str, (ROOT, suite.parent, distribution)))
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(distribution)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(suite)],
        env=os.environ | {"PYTHONPATH": path},
        cwd=distribution,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    found = re.search(r"(\d+) passed", result.stdout)
    assert found is not None and int(found[1]) > 500
