"""Model and corpus cards, made from the records of a folder."""

from .cards import check_corpus_card, check_training_corpora, model_card, write_corpus_card, write_model_card


__all__ = ["check_corpus_card", "check_training_corpora", "model_card", "write_corpus_card", "write_model_card"]
