"""A math agent that reasons, calls Python and answers, trained with GRPO."""
