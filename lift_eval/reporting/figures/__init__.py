"""Figures: what each shows (contents), how it is drawn (drawing), its pixels (pixels), and who does it (painters)."""
