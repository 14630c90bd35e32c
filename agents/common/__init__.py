"""What several agents need: the task as they are given it, the space of recipes, and how a training script is run."""
