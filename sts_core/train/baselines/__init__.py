"""The baselines of METHOD 6 that need a model, measured for a finished result (`sts baselines`)."""
