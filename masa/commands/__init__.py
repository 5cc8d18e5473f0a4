"""The commands of ``python -m masa``, one module each.

A command has ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit code.
"""
