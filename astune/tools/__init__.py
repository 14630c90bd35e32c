"""Tools that agents call, and the sandbox in which model-written code runs."""
