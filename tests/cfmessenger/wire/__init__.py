"""What is read and written on the wire."""
