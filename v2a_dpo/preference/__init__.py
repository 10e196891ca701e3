"""AudioScore, pairs of winner and loser, the complexity score and the curriculum (paper 2.1 to 2.3)."""
