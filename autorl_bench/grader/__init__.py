"""The grader: a process of its own that evaluates submissions, and the only one that writes scores."""
