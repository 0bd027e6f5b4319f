"""Rows in, prompts with marked spans out."""
