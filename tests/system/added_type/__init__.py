"""A durable type that this code does not have, added to a copy of it."""
