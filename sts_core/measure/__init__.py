"""The one pass over tokens."""
