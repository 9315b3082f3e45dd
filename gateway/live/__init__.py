"""Sockets and links: from a client's frame to its object and back."""
