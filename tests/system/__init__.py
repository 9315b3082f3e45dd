"""The whole messenger: simulated, broken, spread over machines, attacked, seen."""
