"""What the API says about itself."""
