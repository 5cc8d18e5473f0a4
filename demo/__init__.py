"""The web page: draws what :mod:`masa` computed. Nothing in ``masa`` depends on it."""
