"""Real Ray and real Valkey together (marker `cluster`)."""
