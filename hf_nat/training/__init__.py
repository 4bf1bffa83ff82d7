"""Training of teachers and students: arguments, trainer, batches by tokens, averaging of checkpoints."""
