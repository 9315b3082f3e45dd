"""Storage ports and their adapters: object logs and mirrors, and the Valkey clients."""
