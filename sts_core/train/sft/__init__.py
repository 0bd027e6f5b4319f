"""Supervised fine-tuning: a training set through TRL and PEFT, killed and gone on with at will."""
