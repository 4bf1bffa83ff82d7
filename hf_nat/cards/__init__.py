"""Model and corpus cards, made from the records of a folder."""

from .cards import model_card, write_corpus_card, write_model_card


__all__ = ["model_card", "write_corpus_card", "write_model_card"]
