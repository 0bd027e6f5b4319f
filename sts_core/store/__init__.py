"""What was measured, kept and found again."""
