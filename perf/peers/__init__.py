"""What a user would otherwise run, written from public APIs."""
