"""What a user sees of a run: run folder, metrics, console, plots, report."""
