"""Training: samples, losses, optimiser, the loop and its log."""
