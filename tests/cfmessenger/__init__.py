"""The product without its I/O frameworks."""
