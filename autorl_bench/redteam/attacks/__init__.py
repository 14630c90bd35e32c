"""What the red team's agents do inside their jobs; nothing heavy is imported there."""
