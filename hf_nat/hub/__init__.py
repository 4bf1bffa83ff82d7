"""Publishing on the Hugging Face Hub."""

from .push import PushArguments, PushPlan, push


__all__ = ["PushArguments", "PushPlan", "push"]
