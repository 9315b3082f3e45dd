"""Between gateways and actors: the messages of a link, and who finds an object."""
