"""Training in stages, as a package that is copied into ``code/``: it needs ``astune`` and nothing of the benchmark."""
