"""Program that the tests start, kill and run in several processes: distills by the arguments of a JSON file."""

from __future__ import annotations

import sys

from accelerate import PartialState

from hf_nat.base.utils import read_json
from hf_nat.decoding import load_model
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


if __name__ == "__main__":
    args = DistillArguments(**read_json(sys.argv[1]))
    distill(*load_model(args.teacher), args)
    PartialState().destroy_process_group()
