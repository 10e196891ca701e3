"""Distances, divergences, bootstrap intervals, tables, figures and the HTML report."""
