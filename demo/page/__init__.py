"""The page and its API: layout, wiring, and what happens when a visitor does something."""
