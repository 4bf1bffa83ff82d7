"""Packaging of hf_nat; the tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "hf_nat/__init__.py").read_text(encoding="utf-8"), re.M)[1]

setup(
    name="hf_nat",
    version=VERSION,
    description="Non-autoregressive translation and its knowledge distillation on the Hugging Face stack",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["hf_nat", "hf_nat.*"]), "hf_nat.hub_cards"],
    py_modules=["hf_nat_cli"],
    # The card templates stand at the top of the repository and are installed as a package of data files.
    package_dir={"hf_nat.hub_cards": "hub_cards"},
    package_data={
        "hf_nat": ["py.typed", "metrics/evaluate_modules/*/*.py"],
        "hf_nat.demo": ["templates/*.jinja"],
        "hf_nat.experiments": ["templates/*.jinja"],
        "hf_nat.hub_cards": ["*.jinja", "*.bib"],
    },
    entry_points={"console_scripts": ["hf-nat = hf_nat_cli:main"]},
    install_requires=[
        "torch>=2.6",
        "transformers>=5.17",
        "accelerate>=1.10",
        "datasets>=4.0",
        "evaluate>=0.4.5",
        "huggingface_hub>=1.0",
        "sacrebleu>=2.5",
        "sacremoses>=0.1",
        "snowballstemmer>=3.0",
        "matplotlib>=3.9",
        "pillow>=10.0",
        "jinja2>=3.1",
        "markdown>=3.5",
        "pyyaml>=6.0",
        "tensorboard>=2.18",
    ],
    extras_require={
        "deepspeed": ["deepspeed>=0.18"],
        "ct2": ["ctranslate2>=4.6"],
        "demo": ["gradio>=6.0"],
        "dev": [
            "pytest>=8.3",
            "ruff>=0.12",
            "mypy>=1.16",
            "types-PyYAML",
            "sentencepiece>=0.2",
            "nltk>=3.10.4",
            "bitsandbytes>=0.46",
            "parameterized>=0.9",
            "ctranslate2>=4.6",
        ],
    },
)
