import pytest

from hf_nat.config import load_config
from hf_nat.data.toy import ToyTask, generate_toy_corpus
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from hf_nat.training.run import train


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory):
    """A toy corpus of 400 training pairs."""
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    return generate_toy_corpus(folder, ToyTask(num_words=12), sizes={"train": 400, "validation": 20, "test": 20})


@pytest.fixture(scope="session")
def run_options(toy_corpus):
    """Command-line options of a tiny run; keyword arguments override them."""

    def options(output_dir, **changes):
        values = {
            "model_type": "marian",
            "size": "nano",
            "model_config": '{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}',
            "corpus": toy_corpus,
            "source_lang": "src",
            "target_lang": "tgt",
            "vocab_size": 120,
            "output_dir": output_dir,
            "max_tokens": 200,
            "max_steps": 12,
            "warmup_steps": 4,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 6,
            "report_to": "none",
            "disable_tqdm": "true",
            "use_cpu": "true",
            **changes,
        }
        return [f"--{key}={value}" for key, value in values.items()]

    return options


@pytest.fixture
def tiny_run(run_options, tmp_path):
    """Trains with `run_options`, by default into the folder `run`; returns the metrics."""

    def run(output_dir=None, **changes):
        arguments = (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments)
        return train(*load_config(arguments, run_options(output_dir or tmp_path / "run", **changes)))

    return run
