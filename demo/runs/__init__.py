"""From a visitor's request to an exploration: reading, waiting in line, running, keeping."""
