"""The `corral` command. Results go to stdout, everything else to stderr."""
