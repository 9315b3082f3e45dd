"""Tests of cfmessenger/data, over both dialects wherever a database is meant."""
