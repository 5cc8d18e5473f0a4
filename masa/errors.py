"""Errors whose message is shown to users as it is."""


class UserError(ValueError):
    """An error whose message says in one sentence what is wrong and what to do about it.

    The command line prints it and exits with 2; the web page shows it as it is.
    """
