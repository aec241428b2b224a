"""The HTTP service over a store."""
