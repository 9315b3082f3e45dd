"""What clients and server say to each other: frames, and the rules for reading them."""
