"""Two trees -> whether they are the same answer."""
