"""Playing a session back."""
