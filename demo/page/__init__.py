"""The page and its API.

``page`` lays out two columns, ``form`` (what is asked for) and ``results`` (what came of it), and
connects their events with ``handlers``. These follow a visitor's ``session``, let ``work`` run the
network, and show figures (``look``), words (``report``) and errors (``messages``). The laboratory's
tab keeps its own events. ``front`` checks what comes in; ``api`` is for programs.
"""
