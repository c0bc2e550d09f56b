"""Networks brought into the unit order of another one, and walks between them."""
