"""The operator's side: the server and its grader as processes, and agents that are run under their budgets."""
