"""Jinja templates of the model and corpus cards, installed as the package `hf_nat.hub_cards`."""
