"""Tests of the storage adapters, against a real Valkey."""
