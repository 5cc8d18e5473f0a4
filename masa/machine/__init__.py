"""The computer: which device and precision, how much memory and work, what is kept."""
