"""Pages and charts over a store."""
