"""Pure numbers: no model, no file, no screen."""
