"""The recording path's sockets: listener, upstream dial, handshake, splice."""
