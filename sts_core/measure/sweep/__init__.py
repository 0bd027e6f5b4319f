"""One measurement over many settings: layers, widths, seeds, pools, and all that stored vectors answer."""
