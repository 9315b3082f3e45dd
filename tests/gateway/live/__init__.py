"""Sockets and links."""
