"""Figures: what each shows (contents), how it is drawn (drawing, pixels), and the processes that draw (render_pool)."""
