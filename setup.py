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
        "hf_nat.demo": ["templates/*.jinja", "templates/*.mjs"],
        "hf_nat.hub_cards": ["*.jinja", "*.bib"],
        "hf_nat.base.reporting": ["templates/*.jinja"],
    },
    # By a path, not a finder: a clone called hf_nat beside a script of a user's would hide the package from it.
    options={"editable_wheel": {"mode": "compat"}},
    entry_points={"console_scripts": ["hf-nat = hf_nat_cli:main"]},
    install_requires=[
        "torch>=2.6",
        "transformers>=5.23",
        "accelerate>=1.15",
        "datasets>=5.2",
        "evaluate>=0.4.6",
        "filelock>=4.2",
        "huggingface_hub>=2.4",
        "sacrebleu>=2.6",
        "sacremoses>=0.2",
        "scipy>=1.17",
        "snowballstemmer>=3.1",
        "matplotlib>=3.11",
        "pillow>=12.3",
        "jinja2>=3.1",
        "markdown>=3.11",
        "pyyaml>=6.0",
        "tensorboard>=2.21",
    ],
    extras_require={
        "deepspeed": ["deepspeed>=0.19"],
        "ct2": ["ctranslate2>=4.8"],
        "export": ["onnxscript>=0.7", "onnx>=1.23", "onnxruntime>=1.32"],
        "onnx": ["onnxruntime>=1.32", "onnx>=1.23"],
        "openvino": ["openvino>=2026.4"],
        "demo": ["gradio>=6.31"],
        "serve": ["fastapi>=0.165", "uvicorn>=0.54", "prometheus_client>=0.26"],
        "beam": ["numba>=0.63"],
        "sentences": ["sentencex>=1.0"],
        "dev": [
            "pytest>=9.2",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "mypy>=2.4",
            "types-PyYAML",
            "sentencepiece>=0.2",
            "sentencex>=1.0",
            "nltk>=3.10.4",
            "bitsandbytes>=0.50",
            "parameterized>=0.9",
            "ctranslate2>=4.8",
            "numba>=0.63",
            "fastapi>=0.165",
            "uvicorn>=0.54",
            "prometheus_client>=0.26",
            "onnxscript>=0.7",
            "onnx>=1.23",
            "onnxruntime>=1.32",
        ],
    },
)
