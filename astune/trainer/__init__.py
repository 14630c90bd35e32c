"""Training: advantages, losses, packing, the policy update, and the run around it."""
