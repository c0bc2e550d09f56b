"""Networks: nodes and ops, models, weights by name, and what follows from the graph of a network."""
