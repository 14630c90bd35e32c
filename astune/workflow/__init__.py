"""What an agent does with one task, and the managed model that it is given."""
