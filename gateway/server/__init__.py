"""uvicorn at the edge of the internet; it knows no endpoint."""
