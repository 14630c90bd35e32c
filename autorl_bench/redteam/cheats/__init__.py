"""The cheats, a module for each thing that they are after; each module lists its own in ``CHEATS``."""
