"""A study: a plan whose steps are commands, their execution here or on a cluster, verdicts and the report."""
