"""Input that nobody thought of, against a live gateway: HTTP by the OpenAPI document,
WebSocket frames byte by byte. Seeded, and bounded in time."""
