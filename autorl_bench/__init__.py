"""AutoRL-Bench: how well does an agent make a model better by reinforcement learning, on its own?"""
