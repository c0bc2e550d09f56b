"""Networks brought into the unit order of another network, and paths between them."""
