"""Codes of data and search among them: principal components, binary codes, Hamming search, ranking (lecture 20)."""
