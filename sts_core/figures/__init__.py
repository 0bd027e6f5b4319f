"""Frames in, Plotly figures and plain sentences out; nothing here knows a screen or a model."""
