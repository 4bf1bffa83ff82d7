"""Several `hf-nat train` in the same processes, as a launcher starts them; under FSDP on a CPU too."""

import sys

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType, parse_flag_from_env
from torch.distributed.tensor import DTensor

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json
from hf_nat.training import run
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments


class CheckedTrainer(run.NATSeq2SeqTrainer):
    """Checks that a process holds half of the model where it should, and all of it elsewhere."""

    def save_model(self, *args, **kwargs):
        parameters = list(self.accelerator.unwrap_model(self.model).parameters())
        pieces = (p.to_local() if isinstance(p, DTensor) else getattr(p, "ds_tensor", p) for p in parameters)
        share = sum(p.numel() for p in pieces) / sum(getattr(p, "ds_numel", p.numel()) for p in parameters)
        expected = 0.5 if self.distribution in ("FSDP", "ZeRO-3") else 1
        assert abs(share - expected) < 0.05, f"this process holds {share:.2f} of the model"
        super().save_model(*args, **kwargs)


run.NATSeq2SeqTrainer = CheckedTrainer
for options in read_json(sys.argv[1]):
    arguments = load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), options)
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and not torch.accelerator.is_available():
        # All that accelerate lacks: `AcceleratorState.__init__` (accelerate/state.py) looks at ACCELERATE_USE_FSDP
        # only if the type is on a list of accelerators, and MULTI_CPU is not. From here on it is its own FSDP.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    run.train(*arguments)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
