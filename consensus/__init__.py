"""Agreement: what makes a block final. Pure: inputs in, outputs out."""
