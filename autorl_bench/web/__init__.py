"""The board: what the store knows of agents and their runs, as web pages, JSON, and a static folder."""
