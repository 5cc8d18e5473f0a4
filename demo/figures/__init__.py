"""Figures, a file for each question that a visitor asks, all drawn from an exploration."""
