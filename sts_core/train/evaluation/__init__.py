"""What a model can do, before and after it is trained: a scorer of our own, and lm-eval beside it (METHOD 6)."""
