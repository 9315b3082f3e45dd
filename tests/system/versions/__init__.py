"""The release before beside this one, and one Ray cluster after another."""
