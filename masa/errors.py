"""Errors whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """What is wrong and what to do about it, in one plain sentence.

    The command line prints it and exits with 2; the web page shows it as it is.
    """
