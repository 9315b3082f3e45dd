"""Tests of the bots as the actors' guest."""
