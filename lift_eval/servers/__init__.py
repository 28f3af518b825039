"""How servers with OpenAI's chat completions interface are asked, by generators of pairs and by judges alike.

They alone know the requests and how to read a reply.
"""
