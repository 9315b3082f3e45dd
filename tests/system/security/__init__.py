"""What SECURITY.md promises that the mirrored tests do not show already."""
