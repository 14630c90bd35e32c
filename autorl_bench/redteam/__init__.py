"""The red team: scripted cheats that attack the benchmark as it is, and honest agents that must pass."""
