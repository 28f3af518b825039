"""How a document's questions are decoded: batches over a beginning that they share. Prompts are made in `prompts`."""
