"""What reliability.md §3 and §4 ask for that the mirrored tests do not show already."""
