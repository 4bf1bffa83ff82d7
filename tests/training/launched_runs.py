"""Several `hf-nat train` in the same processes, as a launcher starts them; under FSDP on a CPU too."""

import gc
import sys

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType, parse_flag_from_env
from torch.distributed.fsdp import FSDPModule

from hf_nat.config import load_config
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from hf_nat.training.run import train
from hf_nat.utils import read_json


fsdp = parse_flag_from_env("ACCELERATE_USE_FSDP")
for options in read_json(sys.argv[1]):
    arguments = load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), options)
    if fsdp and not torch.accelerator.is_available():
        # All that accelerate lacks: `AcceleratorState.__init__` (accelerate/state.py) looks at ACCELERATE_USE_FSDP
        # only if the type is on a list of accelerators, and MULTI_CPU is not. The rest is its own FSDP, on a CPU mesh.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    train(*arguments)
    if fsdp:
        layers = [module for module in gc.get_objects() if isinstance(module, FSDPModule)]
        pieces = [p.to_local().numel() / p.numel() for layer in layers for p in layer.parameters() if p.numel() > 1]
        assert pieces and max(pieces) <= 0.6, "a process must hold about half of every parameter"
    gc.collect()
torch.distributed.barrier()
torch.distributed.destroy_process_group()
