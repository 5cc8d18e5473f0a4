"""One figure per question a visitor asks; each draws an exploration and nothing else."""
