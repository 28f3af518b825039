"""What a run records of itself: costs, losses and what became of each document. Reports read it through `results`."""
