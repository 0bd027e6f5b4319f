"""Training: a SAE here; fine-tuning and evaluation stand beside it. Heavy imports stay in the modules."""
