"""uvicorn at the edge of the internet."""
