"""What ties store and models together: record, seal, catalog."""
