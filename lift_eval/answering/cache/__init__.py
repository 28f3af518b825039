"""What is kept of the keys and values of a document that has been read: one file a method."""
