"""Model and corpus cards, made from the records of a folder."""

from .cards import write_corpus_card, write_model_card


__all__ = ["write_corpus_card", "write_model_card"]
