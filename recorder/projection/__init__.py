"""Folds of a session's events into conversation state."""
