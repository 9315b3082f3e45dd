"""Between gateways and actors."""
