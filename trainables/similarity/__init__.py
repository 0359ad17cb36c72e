"""How alike two networks are: outputs (r^2), layers (linear CKA), and where attention looks."""
