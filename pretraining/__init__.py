"""How the bundled model is made: training from scratch on the invented world; not part of the wheel."""
