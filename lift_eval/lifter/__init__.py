"""The core's public class, and the session on one document: synthesize, train, answer, reset."""
