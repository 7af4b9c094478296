"""Sources of the pages."""
