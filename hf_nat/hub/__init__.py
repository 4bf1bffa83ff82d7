"""Publishing on the Hugging Face Hub: cards and push."""

from .cards import write_corpus_card, write_model_card
from .push import PushArguments, PushPlan, push


__all__ = ["PushArguments", "PushPlan", "push", "write_corpus_card", "write_model_card"]
