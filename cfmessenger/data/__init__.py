"""The collections of `/api/data`: rows that SQL keeps (the role of D1 in the seed)."""
