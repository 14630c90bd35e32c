"""GRPO with self-refine for a vision-language model; see README.md."""
