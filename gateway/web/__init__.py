"""The web client, served under names of its content."""
