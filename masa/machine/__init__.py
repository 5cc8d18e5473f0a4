"""The machine: device and precision, memory, predicted cost of a run, cache of features."""
