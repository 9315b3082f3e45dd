"""Tests of cfmessenger/bots."""
