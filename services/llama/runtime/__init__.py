"""The only code that touches llama.cpp; importing this package alone loads nothing."""
