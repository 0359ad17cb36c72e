"""Networks over time that can be cut into blocks: residual CNN, residual LSTM, transformers."""
