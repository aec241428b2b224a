"""The recorder command, one file per subcommand."""
