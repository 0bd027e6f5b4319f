"""Language models and sparse autoencoders: find, check that they fit, load, read residuals."""
