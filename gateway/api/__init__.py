"""The HTTP endpoints, what they answer with, and what they share with handshakes."""
