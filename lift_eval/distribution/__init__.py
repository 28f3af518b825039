"""The documents of a run, spread over processes and machines."""
