"""Program that the tests run in several processes, and what they start in processes of their own to kill it."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from accelerate import PartialState

from hf_nat.base.utils import read_json
from hf_nat.decoding import load_model
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


def distill_job(job_file: str | Path, environment: Mapping[str, str]) -> None:
    """Distills by the arguments of a JSON file, in a process to which a launcher gave its place.

    Args:
        job_file (`str` or `Path`): the arguments.
        environment (`Mapping[str, str]`): the place among several processes; empty for one alone.
    """
    faulthandler.enable()  # On SIGABRT it tells where each thread is.
    os.environ.update(environment)
    args = DistillArguments(**read_json(job_file))
    distill(*load_model(args.teacher), args)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    distill_job(sys.argv[1], {})
