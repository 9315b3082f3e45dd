"""Tests of the load harness."""
