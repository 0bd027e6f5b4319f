"""Labels for features, and how well they hold: judges that name a feature by its strongest examples (METHOD 10)."""
