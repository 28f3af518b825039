"""What of the document the prompt of a question holds: one file a way, chosen by the recipe's ``prompt.document``."""
