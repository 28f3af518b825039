"""Cartridges: trained keys and values of positions in front of every text, started from the document's own."""
