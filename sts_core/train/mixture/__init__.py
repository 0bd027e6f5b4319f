"""Training data from several domains, in the shares that their scores ask for (METHOD 12)."""
