"""A messenger on a Valkey Cluster: slots that move, primaries that die, the cost."""
