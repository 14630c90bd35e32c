"""The managed model behind an OpenAI-compatible HTTP endpoint."""
