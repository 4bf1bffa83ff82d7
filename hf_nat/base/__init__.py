"""The ground floor: typed arguments, files, JSON records, processes, languages, memory."""
