"""A scripted Realtime server whose truth is known."""
