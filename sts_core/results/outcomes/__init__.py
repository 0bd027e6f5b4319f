"""What really happened to each domain: measured here, or read from others' files (METHOD 6). Needs no model."""
