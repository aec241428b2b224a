"""Import and export of other file formats."""
