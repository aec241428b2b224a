"""The protocol's meaning, pure: no sockets, files, clocks or databases. Time is an argument."""
