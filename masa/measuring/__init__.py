"""Measuring networks: on test sets, and as references change."""
