"""Reading and writing: what a call of a user does."""
