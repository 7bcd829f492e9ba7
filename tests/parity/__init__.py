"""Expected rows of the parity test, and the script that made them."""
