"""Commands of ``python -m masa``, one module each; those that draw are in ``demo.commands``.

A command has ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit code.
"""
