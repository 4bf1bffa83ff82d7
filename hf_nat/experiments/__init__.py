"""The studies of the paper and the quickstart, each a list of steps."""
