"""Commands of ``python -m masa`` that draw; the others are in ``masa.commands``."""
