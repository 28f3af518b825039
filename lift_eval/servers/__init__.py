"""How servers with OpenAI's chat completions interface are asked, by generators of pairs and by judges alike.

What is asked, and what a reply means, is theirs to know.
"""
