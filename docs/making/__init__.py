"""What makes the pages: evidence from runs and tests, and text from the table, the docstrings and the rooms."""
