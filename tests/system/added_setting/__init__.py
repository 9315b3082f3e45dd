"""A copy of this code that has one setting more."""
