"""A copy of this code that has one collection more."""
