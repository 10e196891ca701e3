"""Ratings of candidates by people."""
