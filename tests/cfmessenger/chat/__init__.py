"""The rooms and the registry, without I/O."""
