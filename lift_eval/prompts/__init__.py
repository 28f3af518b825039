"""From a question to token ids: templates, the chat template, truncation. ICL and LIFT share this path."""
